"""`python -m mako` is the command `mako`."""

import sys

from mako.cli import main

if __name__ == "__main__":
    sys.exit(main())
