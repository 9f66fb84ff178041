"""Import of yapf, whose grammar files in the user's cache may be half written.

mmengine imports yapf. The first process of a new environment writes the grammar to the cache, and
a process that reads it at that moment gets half of a file.
"""

import importlib
import pickle
import time

from kd.common.errors import UserError

ATTEMPTS, PAUSE_SECONDS = 50, 0.1  # the pause in seconds; writing the grammar takes one second


def load() -> None:
    """Import yapf, waiting until its grammar is complete; raise UserError after five seconds."""
    for _ in range(ATTEMPTS):
        try:
            importlib.import_module("yapf")
            return
        except (EOFError, pickle.UnpicklingError) as error:
            reason = str(error)
            time.sleep(PAUSE_SECONDS)
    raise UserError(
        f"the cache of yapf's grammar is damaged ({reason}); "
        "delete the folder YAPF in your cache, by default ~/.cache/YAPF"
    )
