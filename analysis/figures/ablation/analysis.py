"""Settings, definition and caption of ablation plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from analysis.figures.base import Analysis, Results
from analysis.statistics.seeds import Metric
from kd.common.results import VALIDATION, results_folder

if TYPE_CHECKING:
    from pandas import DataFrame, Series

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

ON_VALIDATION = " All values are measured on the validation split."


class Ablation(Analysis):
    """AP, or another metric of a split, over the values of a method's setting.

    Points are means over seeds, and bars are Student's t intervals of these means. All seeds use
    the same teacher. The runs of a row differ only in the setting. Horizontal lines are runs whose
    method has no swept setting, and the bands around them are intervals of the same kind.

    A row with one seed has no interval and no line, because its variation between seeds is
    unknown. The axis then covers at least 5 points.
    """

    title: ClassVar[str] = "Ablation"
    question: ClassVar[str] = "How does AP depend on a setting of the method?"
    reads: ClassVar[tuple[str, ...]] = ("metrics.json",)
    pictures: ClassVar[tuple[str, ...]] = ("ablation",)
    tables: ClassVar[tuple[str, ...]] = ("ablation",)

    metric: Metric = "AP"
    """A metric of ``metrics.json``."""
    setting: str | None = None
    """The swept setting, such as ``weight``, or ``rm.weight`` of a sum. The default draws all."""
    measured_on: Literal["test", "val"] = "test"
    """Split that the metric is measured on; a study's figure takes that of its table."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Confidence of the intervals."""

    def inputs(self, run: Path) -> list[Path]:
        """Return the metrics of a run on the split."""
        return [results_folder(run, self.measured_on) / name for name in self.reads]

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the metric over the settings; UserError if no setting is swept."""
        from analysis.figures.ablation.alt_text import alt_texts
        from analysis.figures.ablation.compute import compute_tables
        from analysis.figures.ablation.plot import plot_figures

        tables, looks = compute_tables(
            groups, self.setting, self.metric, self.confidence, library, self.measured_on
        )
        is_validation = self.measured_on == VALIDATION
        label = f"{self.metric}, validation split" if is_validation else self.metric
        pictures = plot_figures(tables, looks, label)
        text = caption(tables, self.metric, self.confidence) + ON_VALIDATION * is_validation
        return Results(pictures, tables, text, alt_texts(tables, self.metric))


def caption(tables: dict[str, DataFrame], metric: str, confidence: float) -> str:
    """Return the best and worst value of each row, and the number of seeds."""
    return " ".join(_sentences(tables["ablation"], metric, confidence))


def _sentences(frame: DataFrame, metric: str, confidence: float) -> Iterator[str]:
    swept = frame[frame["setting"] != ""]
    for (setting, row), lines in swept.groupby(["setting", "row"], sort=False):
        defined = lines.dropna(subset="mean")
        if defined.empty:
            yield f"{row}: {metric} is undefined at every {setting}."
            continue
        ordered = defined.sort_values("mean", kind="stable")
        worst, best = ordered.iloc[0], ordered.iloc[-1]
        yield (
            f"{row}: {metric} is highest at {setting} {best['value']} ({best['mean']:.1f}) and "
            f"lowest at {worst['value']} ({worst['mean']:.1f})."
        )
    yield from _seeds(frame["n"], confidence)


def _seeds(counts: Series[int], confidence: float) -> Iterator[str]:
    fewest, most = counts.min(), counts.max()
    if most < 2:
        yield "Each row has one seed, so there are no intervals and no variation between seeds."
        return
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    yield f"Bars and bands are {100 * confidence:g} % intervals of means over {seeds} seeds."
    if fewest < 2:
        yield "Rows with one seed have no interval."
