"""Base class of the analyses: their settings, their files, and a function from runs to results."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kd.common.schema import Part

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from analysis.plotting.style import Look
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


@dataclass(frozen=True)
class Results:
    """Results of an analysis: the pictures, and tables of all the numbers in them."""

    pictures: dict[str, Figure]
    tables: dict[str, DataFrame]
    caption: str
    """Findings of these runs, in sentences with numbers; the class has the definitions."""
    alt_texts: dict[str, str]
    """Alternative text of each picture, for readers who cannot see it."""


def looks_of(groups: Sequence[RunGroup]) -> dict[str, Look]:
    """Return the look of each group of runs of a figure by its label."""
    from analysis.plotting.style import row_looks

    rows = [(group.role, group.method) for group in groups]
    return {group.label: look for group, look in zip(groups, row_looks(rows), strict=True)}


class Analysis(Part):
    """Settings of an analysis; the docstring of a subclass defines it, and is part of each caption.

    Importing the module must be fast: torch, pandas and matplotlib are imported inside functions.
    """

    title: ClassVar[str]
    question: ClassVar[str]
    """Question that the analysis answers, one sentence."""
    reads: ClassVar[tuple[str, ...]]
    """Files of each run that the analysis needs, beside ``run.json`` and ``config.json``."""
    unfinished: ClassVar[bool] = False
    """If true, runs may lack some of these files."""
    pictures: ClassVar[tuple[str, ...]]
    """Names of the pictures; each is written as PDF and as PNG."""
    photographs: ClassVar[tuple[str, ...]] = ()
    """Names of the pictures that show images of the data set."""
    tables: ClassVar[tuple[str, ...]]
    """Names of the CSV files."""

    def inputs(self, run: Path) -> list[Path]:
        """Return the files of a run that the analysis reads."""
        return [run / name for name in self.reads]

    @property
    def runs_networks(self) -> bool:
        """Return True if the analysis reads weights, and so needs torch and uses a GPU."""
        return "weights.pth" in self.reads

    @classmethod
    def definition(cls) -> str:
        """Return the definition of the analysis: the docstring of its class."""
        return inspect.getdoc(cls) or ""

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Return the names of all files that the analysis writes."""
        pictures = [f"{name}.{kind}" for name in cls.pictures for kind in ("pdf", "png")]
        return (*pictures, *(f"{name}.csv" for name in cls.tables), "caption.md")

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return pictures, tables and caption; UserError if the runs do not fit the analysis."""
        raise NotImplementedError
