"""Training curves, for any set of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeInt

from analysis.figures.base import Analysis, Results
from analysis.statistics.seeds import Metric
from kd.common.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class TrainingCurves(Analysis):
    """The loss and its terms as the optimiser's step saw them, over the steps of the training.

    A term is weighted as in the sum. A distillation term's share is its part of the sum, in per
    cent. AP is that of the test split after an epoch, in points.
    """

    title: ClassVar[str] = "Training curves"
    reads: ClassVar[tuple[str, ...]] = ("metrics.json",)
    unfinished: ClassVar[bool] = True
    pictures: ClassVar[tuple[str, ...]] = (
        "training_curves",
        "training_curves-terms",
        "training_curves-shares",
    )
    tables: ClassVar[tuple[str, ...]] = ("training_curves",)

    metric: Metric = "AP"
    """A figure of ``metrics.json``."""
    smooth: NonNegativeInt | None = None
    """Losses and shares are means over so many steps; 0: every record as it is; without it a
    fiftieth of the longest training."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the curves; UserError where no run has a log."""
        from analysis.figures.training_curves import plot as curves

        frame, damaged = curves.read(groups, self.metric)
        if frame.empty:
            raise UserError("none of the runs has a log.jsonl; published weights have none")
        smooth = curves.width(frame) if self.smooth is None else self.smooth
        looks = {group.label: group.look for group in groups}
        return Results(
            {
                "training_curves": curves.plot(frame, looks, self.metric, smooth),
                "training_curves-terms": curves.plot_terms(frame, looks, smooth),
                "training_curves-shares": curves.plot_shares(frame, looks, smooth),
            },
            {"training_curves": frame},
            " ".join(_sentences(frame, self.metric, smooth, damaged)),
        )


def _sentences(frame: DataFrame, metric: str, smooth: int, damaged: int) -> Iterator[str]:
    runs = frame[["run", "seed"]].drop_duplicates()
    rows = runs["run"].nunique()
    yield f"Rows: {rows}; runs: {len(runs)}."
    if len(runs) > rows:
        yield "Lines are means over seeds, bands reach from the lowest to the highest seed."
    yield _smoothing(smooth)
    yield from _ends(frame, metric)
    yield from _shares(frame)
    if damaged:
        yield f"Damaged lines of the logs, passed over: {damaged}."


def _smoothing(smooth: int) -> str:
    if smooth > 1:
        return f"Losses and shares are means over every {smooth} steps; the CSV has every record."
    return "Losses and shares are as recorded, not smoothed."


def _ends(frame: DataFrame, metric: str) -> Iterator[str]:
    """Say which row ends with the highest figure."""
    figures = frame[frame["quantity"] == metric]
    if figures.empty:
        yield f"No run has a figure of {metric} yet."
        return
    if not (figures["term"] == "validation").any():
        yield f"No run was validated in training: {metric} is that of the finished runs."
    last = figures.sort_values("step").groupby(["run", "seed"], sort=False)["value"].last()
    means = last.groupby("run").mean()
    yield f"The highest {metric} at the end is {means.max():.1f} ({means.idxmax()})."


def _shares(frame: DataFrame) -> Iterator[str]:
    """Say what the distillation terms are of the loss over the last tenth of each training."""
    from analysis.figures.training_curves.plot import total_share

    shares = total_share(frame[frame["quantity"] == "share"])
    if shares.empty:
        return
    ends = shares.groupby("run")["step"].transform("max")
    means = shares[shares["step"] > 0.9 * ends].groupby("run")["value"].mean().sort_values()
    listed = [f"{value:.2g} % ({run})" for run, value in means.items()]
    extremes = " to ".join(dict.fromkeys([listed[0], listed[-1]]))
    yield (
        f"Over the last tenth of training the distillation terms make up {extremes} of the loss."
    )
