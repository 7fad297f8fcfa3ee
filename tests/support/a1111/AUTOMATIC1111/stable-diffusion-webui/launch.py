"""Upstream's launcher clones and installs first; in an image all of that is there already."""

from __future__ import annotations

from webui import main

if __name__ == "__main__":
    main()
