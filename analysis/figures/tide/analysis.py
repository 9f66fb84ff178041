"""TIDE: which errors cost how much AP, and how runs differ in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, NonNegativeInt

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Tide(Analysis):
    """dAP of an error is the AP gained when an oracle mends that error alone (TIDE, ECCV 2020), so
    dAP does not add up. A detection that is not correct has the first of these errors that fits:
    Loc, its IoU with an object of its class is between `background` and the threshold; Cls, it
    would be correct for an object of another class; Dupe, a better detection has its object; Bkg,
    its IoU with every object is at most `background`; Both, the rest. Miss: an object not found,
    that no Loc or Cls error would find. FP: all wrong detections rank last; FN: only objects found
    are wanted. The 100 best detections of an image count, of all classes together, and a class that
    is only detected counts with AP 0: so AP may differ a little from COCO's. Crowds are ignored.
    dAP over the IoU threshold: DICOD, Fig. 3.
    """

    title: ClassVar[str] = "Errors and what they cost"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("tide", "tide-share", "tide-thresholds")
    tables: ClassVar[tuple[str, ...]] = (
        "tide",
        "tide-differences",
        "tide-by-class",
        "tide-thresholds",
    )

    background: Annotated[float, Field(ge=0.1, lt=0.5)] = 0.1
    """IoU up to which a detection is of the background."""
    baseline: str | None = "auto"
    """The label of the row that the others are compared with; `auto`: the first student trained
    alone, else the first row; none: no comparison."""
    resamples: NonNegativeInt = 200
    """Of the images, for the intervals of differences."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Of these intervals."""
    seed: NonNegativeInt = 0
    """Of the resamples."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the errors; UserError where runs are of different splits or a label is unknown."""
        from analysis.figures.tide import plot
        from analysis.figures.tide import tables as tide_tables
        from analysis.runs.groups import truth_of
        from analysis.statistics.bootstrap import resample

        baseline = tide_tables.baseline_of(groups, self.baseline)
        truth = truth_of(groups, library).coco
        count = self.resamples if baseline else 0
        weights = resample(len(truth["images"]), count, self.seed)
        runs = tide_tables.measure(groups, truth, weights, self.background)
        classes = [category["name"] for category in truth["categories"]]
        looks = {group.label: group.look for group in groups}
        frame = tide_tables.summary(runs)
        gaps = tide_tables.differences(runs, baseline, self.confidence)
        curves = tide_tables.by_threshold(runs)
        return Results(
            {
                "tide": plot.plot(frame, gaps, looks),
                "tide-share": plot.plot_shares(frame, list(looks)),
                "tide-thresholds": plot.plot_thresholds(curves, looks),
            },
            {
                "tide": frame,
                "tide-differences": gaps,
                "tide-by-class": tide_tables.by_class(runs, classes),
                "tide-thresholds": curves,
            },
            self._caption(frame, gaps, len(truth["images"])),
        )

    def _caption(self, frame: DataFrame, gaps: DataFrame, images: int) -> str:
        from analysis.figures.tide.tables import certain, costliest

        parts = [
            "dAP of each error, means over the seeds; a ring shows the shares of the main errors "
            "at IoU 0.50.",
            costliest(frame),
        ]
        if len(gaps):
            parts.append(
                f"Intervals of differences: the middle {100 * self.confidence:g} % of what "
                f"{self.resamples} resamples of the {images} test images give, the same images for "
                "both rows (paired bootstrap); they speak of these images, not of other trainings."
            )
            parts.append(certain(gaps))
        return " ".join(parts)
