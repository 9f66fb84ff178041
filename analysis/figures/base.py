"""What every analysis is: settings, and a function from runs to pictures with their data."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import ConfigDict

from kd.common.schema import Part

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


@dataclass(frozen=True)
class Results:
    """What an analysis has found: all that its pictures show is in its tables."""

    pictures: dict[str, Figure]
    tables: dict[str, DataFrame]
    caption: str
    """What the pictures of these runs show, with numbers; the definitions are the class's."""


class Analysis(Part):
    """An analysis' settings; its docstring defines what it shows, and stands in every caption.

    The module must import in a moment: what needs torch, pandas or matplotlib is imported where
    it is used.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    title: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    """Files of each run that the workflow makes; ``run.json`` and ``config.json`` are there."""
    unfinished: ClassVar[bool] = False
    """Whether it makes do with the files that a run has so far."""
    pictures: ClassVar[tuple[str, ...]]
    """Names of what it draws, each a PDF and a PNG."""
    photographs: ClassVar[tuple[str, ...]] = ()
    """Those of them that show images of the data set."""
    tables: ClassVar[tuple[str, ...]]
    """Names of its CSV files."""

    @property
    def runs_networks(self) -> bool:
        """Whether it reads weights, and so needs torch, and a GPU where there are any."""
        return "weights.pth" in self.reads

    @classmethod
    def definition(cls) -> str:
        """Return what it shows, and how that is defined."""
        return inspect.getdoc(cls) or ""

    @classmethod
    def files(cls) -> tuple[str, ...]:
        """Return the names of all files that it leaves."""
        pictures = [f"{name}.{kind}" for name in cls.pictures for kind in ("pdf", "png")]
        return (*pictures, *(f"{name}.csv" for name in cls.tables), "caption.md")

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return what the runs show; UserError where they do not fit the analysis."""
        raise NotImplementedError
