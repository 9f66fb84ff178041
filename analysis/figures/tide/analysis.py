"""Settings, definition and caption of TIDE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, NonNegativeInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Tide(Analysis):
    """The dAP of an error is the AP gained if that error alone is fixed (TIDE, ECCV 2020).

    The dAP of several errors does not add up. A wrong detection has the first of these errors that
    applies:

    - Loc (localization): its IoU with an object of its class is between `background` and the
      threshold.
    - Cls (classification): it would be correct for an object of another class.
    - Dupe (duplicate): a detection with a higher score has its object.
    - Bkg (background): its IoU with every object is at most `background`.
    - Both: all other wrong detections.

    Miss is an object without a correct detection that no fix of a Loc or Cls error would detect.
    FP (false positives) ranks all wrong detections last. FN (false negatives) removes all objects
    without a correct detection.

    The 100 best detections of an image count, of all classes together. A class with detections but
    without objects counts with AP 0. Because of both, AP may differ a little from COCO's. Crowds
    are ignored. The teacher does not set the scale of differences; its value is printed where it is
    outside the scale. dAP over the IoU threshold is DICOD, Fig. 3.
    """

    title: ClassVar[str] = "Errors and their cost in AP"
    question: ClassVar[str] = "Which errors cost AP, and how do the runs differ in them?"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("tide", "tide-share", "tide-thresholds")
    tables: ClassVar[tuple[str, ...]] = (
        "tide",
        "tide-differences",
        "tide-by-class",
        "tide-thresholds",
    )

    background: Annotated[float, Field(ge=0.1, lt=0.5)] = 0.1
    """Largest IoU of a detection of the background with any object."""
    baseline: str | None = "auto"
    """Label of the row that the others are compared with; `auto`: the first student trained
    alone, else the first row; none: no comparison."""
    resamples: NonNegativeInt = 200
    """Resamples of the images, for the intervals of differences."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence of these intervals."""
    seed: NonNegativeInt = 0
    """Seed of the resamples."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the errors; UserError if runs have different splits or a label is unknown."""
        from analysis.figures.tide.alt_text import alt_texts
        from analysis.figures.tide.compute import compute_tables, select_baseline
        from analysis.figures.tide.plot import plot_figures
        from analysis.runs.groups import truth_of
        from analysis.statistics.bootstrap import resample

        baseline = select_baseline(groups, self.baseline)
        truth = truth_of(groups, library).coco
        images = len(truth["images"])
        weights = resample(images, self.resamples if baseline else 0, self.seed)
        tables = compute_tables(groups, truth, weights, self.background, baseline, self.confidence)
        pictures = plot_figures(tables, looks_of(groups))
        text = caption(tables, self.confidence, self.resamples, images)
        return Results(pictures, tables, text, alt_texts(tables))


def caption(tables: dict[str, DataFrame], confidence: float, resamples: int, images: int) -> str:
    """Return the costliest error of each run, and the differences that are not zero."""
    from analysis.figures.tide.compute import costliest_errors, nonzero_differences

    sentences = [
        "dAP and shares are means over the seeds. A share is that of an error in the sum of the "
        "six main errors.",
        costliest_errors(tables["tide"]),
    ]
    differences = tables["tide-differences"]
    if len(differences):
        sentences += [
            f"Intervals of differences are the middle {100 * confidence:g} % of {resamples} "
            f"resamples of the {images} test images, the same images for both rows (paired "
            "bootstrap). They cover the choice of the images, not the variation between trainings.",
            nonzero_differences(differences),
        ]
    return " ".join(sentences)
