"""Settings, definition and caption of training curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeInt

from analysis.figures.base import Analysis, Results, looks_of
from analysis.statistics.seeds import Metric

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class TrainingCurves(Analysis):
    """The training loss, its terms, the learning rate and AP over the steps of the training.

    Losses are those of the batch that the optimizer used in a step. Each term is multiplied by its
    weight, as in the sum. The share of a distillation term is its part of the sum, in per cent.

    AP, in points, is measured on the validation split of a data set that has one, else on the test
    split; the axis names the split. Do not use a curve on the test split to choose an epoch or a
    setting, because the same split measures the result.
    """

    title: ClassVar[str] = "Training curves"
    question: ClassVar[str] = "How did the loss terms and AP change during training?"
    reads: ClassVar[tuple[str, ...]] = ("metrics.json",)
    unfinished: ClassVar[bool] = True
    pictures: ClassVar[tuple[str, ...]] = (
        "training_curves",
        "training_curves-terms",
        "training_curves-shares",
    )
    tables: ClassVar[tuple[str, ...]] = ("training_curves",)

    metric: Metric = "AP"
    """A metric of ``metrics.json``."""
    smooth: NonNegativeInt | None = None
    """Number of steps over which losses and shares are averaged; 0 draws every record. The default
    is a fiftieth of the longest training."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the curves; UserError if no run has a log."""
        from analysis.figures.training_curves.alt_text import alt_texts
        from analysis.figures.training_curves.compute import compute_tables, default_smoothing
        from analysis.figures.training_curves.plot import plot_figures

        tables, damaged_lines = compute_tables(groups, self.metric)
        frame = tables["training_curves"]
        smooth = default_smoothing(frame) if self.smooth is None else self.smooth
        pictures = plot_figures(tables, looks_of(groups), self.metric, smooth)
        text = caption(tables, self.metric, smooth, damaged_lines)
        return Results(pictures, tables, text, alt_texts(tables, self.metric))


def caption(tables: dict[str, DataFrame], metric: str, smooth: int, damaged_lines: int) -> str:
    """Return the number of runs, the smoothing, the best final metric, and the final shares."""
    return " ".join(_sentences(tables["training_curves"], metric, smooth, damaged_lines))


def _sentences(frame: DataFrame, metric: str, smooth: int, damaged_lines: int) -> Iterator[str]:
    runs = frame[["run", "seed"]].drop_duplicates()
    rows = runs["run"].nunique()
    yield f"Rows: {rows}; runs: {len(runs)}."
    if len(runs) > rows:
        yield "Lines are means over seeds; bands reach from the lowest to the highest seed."
    if smooth > 1:
        yield f"Losses and shares are means over every {smooth} steps; the CSV has every record."
    else:
        yield "Losses and shares are not averaged over steps."
    yield from _final_metrics(frame, metric)
    yield from _final_shares(frame)
    if damaged_lines:
        yield f"Damaged lines of the logs that were skipped: {damaged_lines}."


def _final_metrics(frame: DataFrame, metric: str) -> Iterator[str]:
    """Yield the split and the row with the highest final value of the metric."""
    from analysis.figures.training_curves.compute import split_name

    values = frame[frame["quantity"] == metric]
    if values.empty:
        yield f"No run has a value of {metric} yet."
        return
    if (values["term"] == "final").all():
        yield f"No run was evaluated during training: {metric} is that of the finished runs."
    elif (values["term"] == "test").any():
        yield f"No validation split: {metric} during training was measured on the test split."
    last = values.sort_values("step").groupby(["run", "seed"], sort=False)["value"].last()
    means = last.groupby("run").mean()
    yield (
        f"The highest {metric} at the end, on the {split_name(values)}, is {means.max():.1f} "
        f"({means.idxmax()})."
    )


def _final_shares(frame: DataFrame) -> Iterator[str]:
    """Yield the share of all distillation terms in the loss over the last tenth of training."""
    from analysis.figures.training_curves.compute import total_share

    shares = total_share(frame[frame["quantity"] == "share"])
    if shares.empty:
        return
    ends = shares.groupby("run")["step"].transform("max")
    means = shares[shares["step"] > 0.9 * ends].groupby("run")["value"].mean().sort_values()
    values = [f"{value:.2g} % ({run})" for run, value in means.items()]
    extremes = " to ".join(dict.fromkeys([values[0], values[-1]]))
    yield (
        f"Over the last tenth of training the distillation terms make up {extremes} of the loss."
    )
