"""The analyses, one file each; ``get`` finds them by the file's name."""

import importlib
import pkgutil
from functools import cache

from analysis.figures.base import Analysis
from kd.errors import UserError, suggest


@cache
def names() -> list[str]:
    """Return the names of all analyses, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name != "base")


@cache
def get(name: str, where: str = "analysis") -> type[Analysis]:
    """Return the analysis in ``analysis/figures/<name>.py``; UserError where there is none."""
    if name not in names():
        raise UserError(f"{where}: no analysis '{name}'; {suggest(name, names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    (analysis,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Analysis)
        and value.__module__ == module.__name__
    )
    return analysis
