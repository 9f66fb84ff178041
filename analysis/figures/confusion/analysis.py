"""Settings, definition and caption of confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Confusion(Analysis):
    """Share of the objects of a class (row) that detections of each class (column) match.

    By falling score, each detection takes the free object with the highest IoU, of any class, if
    that is at least `iou`. The last column has the missed objects. The last row has the detections
    without an object, as shares of all such detections. The others are shares of the objects of
    their class, so each row adds up to 100 %.

    A confusion matrix needs a score threshold. By default it is, for each class and run, the one
    with the lowest LRP (analysis `lrp`), so a class without a true positive has no detection.
    Crowds are no objects, and detections in a crowd of their class are ignored.

    Of more than `classes` classes, those with the largest confusions of two classes are shown, and
    the others are one row and one column, whose common cell includes the confusions among them. The
    CSV file has all pairs of classes that occur.
    """

    title: ClassVar[str] = "Confusion matrices"
    question: ClassVar[str] = "Which classes are missed, and which are taken for each other?"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("confusion",)
    tables: ClassVar[tuple[str, ...]] = ("confusion",)

    iou: Annotated[float, Field(ge=0.1, le=1)] = 0.5
    """Smallest IoU of a match."""
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Smallest score of a detection; without it, for each class that with the lowest LRP."""
    classes: Annotated[int, Field(ge=2, le=16)] = 10
    """Most classes of a matrix."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the matrices; UserError if runs have different splits."""
        from analysis.figures.confusion.alt_text import alt_texts
        from analysis.figures.confusion.compute import compute_matrices, largest, to_table
        from analysis.figures.confusion.plot import plot_figures
        from analysis.runs.groups import truth_of

        truth = truth_of(groups, library).coco
        names = [category["name"] for category in truth["categories"]]
        matrices = compute_matrices(groups, truth, self.iou, self.score)
        pictures = plot_figures(matrices, names, self.classes)
        text = "The largest confusion of two classes, in per cent of the objects: " + "; ".join(
            f"{run} {largest(counts, names)}" for run, counts in matrices.items()
        )
        return Results(
            pictures, {"confusion": to_table(matrices, names)}, f"{text}.",
            alt_texts(matrices, names),
        )  # fmt: skip
