"""Ask pip for another version of a package than the WebUI's."""

import launch

launch.run_pip('install "pydantic>=2"', "a requirement of sd-webui-conflicts")
