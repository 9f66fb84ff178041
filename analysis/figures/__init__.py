"""Figures, one folder each: analysis, computation, plot, alternative texts.

The parts have the same functions in every folder:

- ``analysis.py``: a subclass of ``Analysis`` with its settings, and ``caption(...)``;
- ``compute.py``: ``compute_tables(...)``, from runs to the tables of the CSV files;
- ``plot.py``: ``plot_figures(...)``, from these tables to pictures;
- ``alt_text.py``: ``alt_texts(...)``, from these tables to the alternative texts of the pictures.

``profile`` (``kd profile``) is not an analysis of several runs: it has no settings and writes no
tables.
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
    """Return the class in ``analysis/figures/<name>/analysis.py``; UserError if it is absent."""
    if name not in names():
        raise UserError(f"{where}: no analysis '{name}'; {suggest(name, names())}")
    return class_in(f"{__name__}.{name}.analysis", Analysis)
