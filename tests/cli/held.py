"""Program that runs ``kd ...`` and waits for a signal before it renames a file to NAME.

Usage: ``python -m tests.cli.held NAME ...``. The temporary file exists for milliseconds only, so a
test that polls for it would otherwise miss it.
"""

import os
import signal
import sys
from typing import Any

from kd.cli.main import main

rename, held = os.replace, sys.argv.pop(1)


def hold(source: Any, target: Any) -> None:
    """Rename a file; before the rename to NAME, wait for a signal."""
    if os.path.basename(target) == held:
        signal.pause()
    rename(source, target)


os.replace = hold
sys.exit(main(sys.argv[1:]))
