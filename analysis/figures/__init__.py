"""The analyses, one file each; ``get`` finds them by the file's name."""

from functools import cache

from analysis.figures.base import Analysis
from kd.common.errors import UserError, suggest
from kd.common.modules import class_in, modules_in


@cache
def names() -> list[str]:
    """Return the names of all analyses, sorted."""
    return modules_in(__path__)


@cache
def get(name: str, where: str = "analysis") -> type[Analysis]:
    """Return the analysis in ``analysis/figures/<name>.py``; UserError where there is none."""
    if name not in names():
        raise UserError(f"{where}: no analysis '{name}'; {suggest(name, names())}")
    return class_in(f"{__name__}.{name}", Analysis)
