"""yapf, which mmengine imports, and its grammar in the user's cache.

The first process of a new environment writes the grammar there, and another that reads meanwhile
finds half of it.
"""

import importlib
import pickle
import time

from kd.common.errors import UserError

ATTEMPTS, PAUSE = 50, 0.1  # seconds; to write it takes one


def load() -> None:
    """Import yapf once its grammar is whole; UserError where it does not become so."""
    for _ in range(ATTEMPTS):
        try:
            importlib.import_module("yapf")
            return
        except (EOFError, pickle.UnpicklingError) as error:
            reason = str(error)
            time.sleep(PAUSE)
    raise UserError(
        f"the grammar of yapf in your cache is damaged ({reason}); "
        "remove the folder YAPF there, ~/.cache/YAPF if you have not moved it"
    )
