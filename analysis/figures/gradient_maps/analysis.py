"""Settings, definition and caption of gradient maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class GradientMaps(Analysis):
    """Gradient maps of the losses on the neck (Guo et al., CVPR 2021, supplement, figs. 2 and 3).

    A map shows, at each cell of a neck level F of a student, the L2 norm over channels of dL/dF. L
    is the loss of the training, or one of its terms: mmdet's detection losses together, or a
    weighted distillation term. If one level is computed from another, its gradient counts for both.

    Each gradient is that of one image with objects, drawn by seed and not augmented. The networks,
    finished or of an unfinished training (`epoch` of a study's figure), are in eval mode, after
    the warm-ups of methods and before their decays. Means are over the cells of all images that lie
    on an object of any size, and over all other cells, padding included. A level without such cells
    has no mean, and a ratio to 0 is undefined. A map of more than 100 cells a side is drawn and
    stored as means of blocks of cells. All maps have one color scale: the darkest color is the
    largest gradient of all runs and levels, the lightest is a thousandth of it or less.
    """

    title: ClassVar[str] = "Gradients of the losses in the neck"
    question: ClassVar[str] = "Where in the neck do the gradients of each loss term fall?"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("gradient_maps", "gradient_maps-means")
    photographs: ClassVar[tuple[str, ...]] = ("gradient_maps",)
    tables: ClassVar[tuple[str, ...]] = ("gradient_maps", "gradient_maps-means")

    images: PositiveInt = 20
    """Number of images of the means; fewer if the split has fewer with objects."""
    examples: PositiveInt = 1
    """Number of these images, the first ones, with maps in the picture."""
    split: Literal["train", "test"] = "train"
    """Split of the images; the paper's are training images."""
    seed: int = 0
    """Seed of the images, and of the RoIs that a second stage samples."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the gradients; UserError if adaptation layers of a run are not trained."""
        from analysis.figures.gradient_maps.alt_text import alt_texts
        from analysis.figures.gradient_maps.compute import compute_tables
        from analysis.figures.gradient_maps.plot import plot_figures
        from analysis.runs.groups import check_one_dataset, students_of

        check_one_dataset(groups)
        students = students_of(groups)
        tables, images = compute_tables(students, self.images, self.examples, self.split, self.seed)
        pictures = plot_figures(tables, looks_of(students), images)
        return Results(pictures, tables, caption(tables), alt_texts(tables))


def caption(tables: dict[str, DataFrame]) -> str:
    """Return each run's ratio of the total gradient on objects and background, by level."""
    from analysis.figures.gradient_maps.compute import describe_ratios

    return describe_ratios(tables["gradient_maps-means"])
