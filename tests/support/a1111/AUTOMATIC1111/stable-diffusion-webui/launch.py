"""Upstream's launcher clones and installs first; in an image all of that is there already.

Installers of extensions import it for `run`, `run_pip`, `is_installed` and `args`.
"""

from __future__ import annotations

from modules.launch_utils import args, index_url, is_installed, python, run, run_pip

__all__ = ["args", "index_url", "is_installed", "python", "run", "run_pip"]

if __name__ == "__main__":
    from webui import main

    main()
