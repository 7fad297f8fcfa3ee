"""An installer that gives up."""

import sys

sys.exit("fails-to-install: no compiler was found")
