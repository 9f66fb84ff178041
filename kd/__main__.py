"""Run the command line with ``python -m kd``."""

import sys

from kd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
