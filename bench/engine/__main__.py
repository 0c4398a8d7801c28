"""`python -m bench.engine` is `mako bench engine`."""

import sys

from mako.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "engine", *sys.argv[1:]]))
