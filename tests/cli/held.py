"""``python -m tests.cli.held NAME ...``: ``kd ...``, which stops before it renames a file to NAME.

It waits for a signal beside the temporary file, which a poll could miss otherwise: it exists for
milliseconds.
"""

import os
import signal
import sys
from typing import Any

from kd.cli.main import main

rename, held = os.replace, sys.argv.pop(1)


def hold(source: Any, target: Any) -> None:
    """Rename a file, or wait where it is the one named."""
    if os.path.basename(target) == held:
        signal.pause()
    rename(source, target)


os.replace = hold
sys.exit(main(sys.argv[1:]))
