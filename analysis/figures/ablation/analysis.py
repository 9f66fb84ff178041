"""Ablation plots: a figure over a swept setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from analysis.figures.base import Analysis, Results
from analysis.statistics.seeds import Metric

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Ablation(Analysis):
    """AP, or another figure of the test split, over the values of a method's setting.

    Points are means over seeds, bars Student's t intervals of these means; the teacher is the
    same for all seeds. Within a row nothing but the setting differs. Horizontal lines are runs
    whose method was not swept, and the bands about them such intervals.
    """

    title: ClassVar[str] = "Ablation"
    reads: ClassVar[tuple[str, ...]] = ("metrics.json",)
    pictures: ClassVar[tuple[str, ...]] = ("ablation",)
    tables: ClassVar[tuple[str, ...]] = ("ablation",)

    metric: Metric = "AP"
    """A figure of ``metrics.json``."""
    setting: str | None = None
    """The swept setting, such as ``weight``, or ``rm.weight`` of a sum; without it all of them."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the intervals."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the figure over the settings; UserError where none is swept."""
        from analysis.figures.ablation import plot

        names = plot.choose(groups, self.setting, library)
        frame, looks = plot.measure(groups, names, self.metric, self.confidence, library)
        return Results(
            {"ablation": plot.plot(frame, looks, self.metric)},
            {"ablation": frame},
            " ".join(_sentences(frame, self.metric, self.confidence)),
        )


def _sentences(frame: DataFrame, metric: str, confidence: float) -> Iterator[str]:
    for (setting, row), own in frame[frame["setting"] != ""].groupby(
        ["setting", "row"], sort=False
    ):
        known = own.dropna(subset="mean")
        if known.empty:
            yield f"{row}: {metric} is undefined at every {setting}."
            continue
        ordered = known.sort_values("mean", kind="stable")
        worst, best = ordered.iloc[0], ordered.iloc[-1]
        yield (
            f"{row}: {metric} is highest at {setting} {best['value']} ({best['mean']:.1f}) and "
            f"lowest at {worst['value']} ({worst['mean']:.1f})."
        )
    yield from _seeds(frame["n"], confidence)


def _seeds(numbers: Series[int], confidence: float) -> Iterator[str]:
    least, most = numbers.min(), numbers.max()
    if most < 2:
        yield "One seed each: there are no intervals, and how far seeds differ is not known."
        return
    seeds = f"{most}" if least == most else f"{least} to {most}"
    yield f"Bars and bands are {100 * confidence:g} % intervals of means over {seeds} seeds."
    if least < 2:
        yield "Where there is one seed there is none."
