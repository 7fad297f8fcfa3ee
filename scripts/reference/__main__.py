"""Write the generated tables of the docs: `python -m scripts.reference`."""

from scripts.host.config.load import ROOT
from scripts.host.console import say
from scripts.reference.blocks import write

if __name__ == "__main__":
    for path in write():
        say(f"wrote {path.relative_to(ROOT)}")
