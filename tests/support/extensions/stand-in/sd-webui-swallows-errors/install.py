"""An installer that goes on without the package that it needs, and exits with 0."""

import launch

if not launch.is_installed("no-such-package-of-a-stand-in"):
    try:
        launch.run_pip("install no-such-package-of-a-stand-in", "a requirement")
    except RuntimeError as error:
        print(f"Warning: Failed to install a requirement: {error}")
