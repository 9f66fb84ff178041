"""Settings, definition and caption of reliability diagrams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Calibration(Analysis):
    """Detections in bins of confidence: mean confidence against precision (reliability diagram).

    A detector is calibrated if its precision in each bin equals the mean confidence, which is the
    diagonal. Below it the detector is overconfident. The second mark of a bin is precision times
    the mean IoU of its true positives, which equals the confidence if that is the expected IoU.

    - D-ECE (Küppers et al., CVPR Workshops 2020) is the mean gap between confidence and precision,
      weighted by the detections of the bins, in 20 bins, of all classes together.
    - LaECE (Oksuz et al., CVPR 2023) is that between confidence and precision times IoU, in 25
      bins, and the mean over classes. With an `iou` of 0 it is LaECE0 (Kuzucu et al., ECCV 2024).

    Detections are matched as in COCO's AP, at one IoU, at most 100 of an image and class. Those in
    crowds are ignored. The diagram has fewer bins than the errors, of all classes and seeds
    together. Bins with fewer than 20 detections are drawn hollow. Most detections have a low
    confidence, so the lowest bins decide both errors; bars below each diagram have the counts.
    """

    title: ClassVar[str] = "Reliability diagrams"
    question: ClassVar[str] = "Is the confidence of a detection its probability of being right?"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("calibration",)
    tables: ClassVar[tuple[str, ...]] = ("calibration", "calibration-bins")

    iou: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Smallest IoU of a true positive; with 0 any overlap counts."""
    bins: Annotated[int, Field(ge=2, le=25)] = 10
    """Bins of the diagram."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the diagrams; UserError if runs have different splits."""
        from analysis.figures.calibration.alt_text import alt_texts
        from analysis.figures.calibration.compute import compute_tables
        from analysis.figures.calibration.plot import plot_figures
        from analysis.runs.groups import truth_of

        truth = truth_of(groups, library).coco
        tables = compute_tables(groups, truth, self.iou, self.bins)
        pictures = plot_figures(tables, looks_of(groups))
        return Results(pictures, tables, caption(tables), alt_texts(tables))


def caption(tables: dict[str, DataFrame]) -> str:
    """Return both errors of each run, and whether its confidence is too high or too low."""
    from analysis.figures.calibration.compute import gaps, means

    errors = means(tables["calibration"])
    rows = [
        f"{run} {dece:.1f} and {laece:.1f}"
        for run, dece, laece in errors[["D-ECE", "LaECE"]].itertuples()
    ]
    gap = gaps(tables["calibration-bins"])
    high = [f"{run} ({value:+.1f})" for run, value in gap.items() if value > 0]
    return (
        f"D-ECE and LaECE in points, means over the seeds; lower is better: {', '.join(rows)}. "
        "Confidence is above precision on average over all detections (difference in points) in: "
        f"{', '.join(high) or 'no run'}."
    )
