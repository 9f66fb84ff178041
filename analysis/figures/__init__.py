"""Figures, one folder each: settings and definition, computation, plot. ``get`` finds them by
name.
"""

from functools import cache

from analysis.figures.base import Analysis
from kd.common.errors import UserError, suggest
from kd.common.modules import class_in, packages_in


@cache
def names() -> list[str]:
    """Return the names of all analyses, sorted."""
    return packages_in(__path__, "analysis")


@cache
def get(name: str, where: str = "analysis") -> type[Analysis]:
    """Return the analysis in ``analysis/figures/<name>/analysis.py``; UserError where there is
    none.
    """
    if name not in names():
        raise UserError(f"{where}: no analysis '{name}'; {suggest(name, names())}")
    return class_in(f"{__name__}.{name}.analysis", Analysis)
