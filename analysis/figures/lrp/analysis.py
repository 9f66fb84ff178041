"""Settings, definition and caption of optimal LRP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, NonNegativeInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Lrp(Analysis):
    """Optimal LRP, the mean error at the best score threshold, and its components (Oksuz, 2018).

    LRP of the detections of a class above a score threshold is the mean error over all true
    positives, false positives and missed objects: (1 - IoU) / (1 - `iou`) for a true positive, 1
    for the others. oLRP is the lowest LRP over the thresholds, mean over classes. Lower is better.
    The components are at that threshold:

    - Localization: mean 1 - IoU of the true positives.
    - False positives: their share in the detections, 1 - precision.
    - Missed: share of the objects without a true positive, 1 - recall.

    They are means over the classes with a true positive, and for missed objects over the classes
    with objects. The components do not add up to oLRP. Detections are matched as in COCO's AP, at
    most 100 of an image and class. Those in crowds are ignored. Each resample of the images has its
    own best thresholds, so intervals of oLRP reach farther down than up. Differences from the first
    student trained alone are on the same resamples for both rows (paired bootstrap).
    """

    title: ClassVar[str] = "Optimal LRP and its components"
    question: ClassVar[str] = "At the best threshold, do boxes, precision or recall cost most?"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("lrp",)
    tables: ClassVar[tuple[str, ...]] = ("lrp", "lrp-differences", "lrp-by-class")

    iou: Annotated[float, Field(ge=0.1, lt=1)] = 0.5
    """Smallest IoU of a true positive."""
    resamples: NonNegativeInt = 200
    """Resamples of the images, for the intervals."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence of the intervals."""
    seed: NonNegativeInt = 0
    """Seed of the resamples."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the measures; UserError if runs have different splits."""
        from analysis.figures.lrp.alt_text import alt_texts
        from analysis.figures.lrp.compute import compute_tables
        from analysis.figures.lrp.plot import plot_figures
        from analysis.runs.groups import truth_of
        from analysis.statistics.bootstrap import resample

        truth = truth_of(groups, library).coco
        images = len(truth["images"])
        weights = resample(images, self.resamples, self.seed)
        tables = compute_tables(groups, truth, self.iou, weights, self.confidence)
        text = caption(tables, self.confidence, self.resamples, images)
        return Results(plot_figures(tables, looks_of(groups)), tables, text, alt_texts(tables))


def caption(tables: dict[str, DataFrame], confidence: float, resamples: int, images: int) -> str:
    """Return the oLRP of each run, the definition of the intervals, and differences of oLRP."""
    values = ", ".join(f"{line.run} {line.oLRP:.1f}" for line in tables["lrp"].itertuples())
    sentences = [f"oLRP in points, means over the seeds: {values}."]
    if resamples:
        sentences.append(
            f"Intervals are the middle {100 * confidence:g} % of {resamples} resamples of the "
            f"{images} test images. They cover the choice of the images, not the variation between "
            "trainings."
        )
    rows = tables["lrp-differences"]
    nonzero = rows[(rows["oLRP_low"] > 0) | (rows["oLRP_high"] < 0)]
    if resamples and len(rows):
        listing = ", ".join(f"{line.run} {line.oLRP:+.1f}" for line in nonzero.itertuples())
        sentences.append(
            f"Differences of oLRP from {rows['baseline'].iloc[0]} whose interval does not contain "
            f"zero: {listing or 'none'}."
        )
    return " ".join(sentences)
