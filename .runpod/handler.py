"""Start the worker's handler: the Hub wants a file of this name.

In the image the supervisor does so (`python -m scripts.container`), once the WebUI has drawn.
"""

import sys

from scripts.container.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["handler"]))
