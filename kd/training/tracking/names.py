"""Names of trackers, checked before a training without an import of torch."""

from collections.abc import Sequence
from importlib.util import find_spec

from kd.common.errors import UserError, suggest

TRACKERS = ("tensorboard", "mlflow", "wandb")
"""Names of trackers, of their Python packages, and of this project's extras that install them."""


def check_trackers(names: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the names, each once; UserError if one is unknown or its package is not installed.

    ``option``: the option that names them, for the message.
    """
    for name in names:
        if name not in TRACKERS:
            raise UserError(f"{option}: no tracker '{name}'; {suggest(name, TRACKERS)}")
        if find_spec(name) is None:
            raise UserError(
                f"{option}: tracker '{name}' is not installed; run `pip install {name}` (the extra "
                f"'{name}' of this project), or leave it out"
            )
    return tuple(dict.fromkeys(names))
