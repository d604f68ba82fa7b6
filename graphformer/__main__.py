"""Runs the `graphformer` command as `python -m graphformer`."""

import sys

from graphformer.cli import main

if __name__ == "__main__":
    sys.exit(main())
