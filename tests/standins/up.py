"""Run `tests.support.up` under its former name, with a warning."""

import sys

from tests.support.up import main

if __name__ == "__main__":
    print("warning: tests.standins.up is now tests.support.up", file=sys.stderr)
    main()
