"""Settings, definition and caption of distances to the teacher by channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.figures.channel_distance.compute import Distances
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class ChannelDistance(Analysis):
    """Per-channel distance to the teacher (Guo et al., CVPR 2021, supplement, figure 1).

    The distance of a channel is the mean of |teacher - student| in that channel of one neck level:
    over the cells on objects, and over all other cells. It is in units of activations, on images
    with objects, drawn by seed from the test split.

    A cell is on an object if a ground-truth box covers it, even if the object is learned on another
    level. The padding of an image is background. A region without cells has no distance. Raw maps
    are the inputs of the heads. A method with an adaptation layer makes only the output of that
    layer similar to the teacher.
    """

    title: ClassVar[str] = "Distance to the teacher by channel"
    question: ClassVar[str] = (
        "How far is each channel of the neck from the teacher's, on objects and on background?"
    )
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("channel_distance",)
    tables: ClassVar[tuple[str, ...]] = ("channel_distance", "channel_distance-means")

    images: PositiveInt = 20
    """Number of images; fewer if the split has fewer with objects."""
    seed: int = 0
    """Seed of the images."""
    level: NonNegativeInt = 0
    """Level of the neck, in the network's order."""
    order: Literal["network", "baseline", "own"] = "own"
    """Order of the channels on the axis: that of the network, as in the paper's figure; the largest
    distance of the baseline first; or each run's largest distance first."""
    adapted: bool = False
    """Pass the student's map through the adaptation layer that its method trained."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the distances; UserError if maps of student and teacher differ in size."""
        from analysis.figures.channel_distance.alt_text import alt_texts
        from analysis.figures.channel_distance.compute import compute_tables
        from analysis.figures.channel_distance.plot import plot_figures
        from analysis.runs.groups import check_one_dataset, students_of, teacher_of

        check_one_dataset(groups)
        students = students_of(groups)
        tables, distances = compute_tables(
            students, teacher_of(groups), self.images, self.seed, self.level, self.adapted
        )
        reference = next((g for g in students if g.role == "baseline"), students[0]).label
        pictures = plot_figures(tables, looks_of(students), self.order, reference)
        text = caption(tables, distances, self.level, reference)
        return Results(pictures, tables, text, alt_texts(tables))


def caption(
    tables: dict[str, DataFrame], distances: dict[str, Distances], level: int, reference: str
) -> str:
    """Return the level, the maps, and the distances relative to those of the reference run."""
    from analysis.figures.channel_distance.compute import describe_changes

    return " ".join(
        [
            _describe_level(distances[reference], level),
            _describe_maps(distances),
            describe_changes(tables["channel_distance-means"], reference),
        ]
    )


def _describe_level(distances: Distances, level: int) -> str:
    objects, background = distances.cells
    return (
        f"Level {level} of the neck, with stride {distances.stride} and "
        f"{distances.mean.shape[1]} channels; objects cover "
        f"{objects / (objects + background):.0%} of its {objects + background:,} cells in "
        f"{distances.images} images."
    )


def _describe_maps(distances: dict[str, Distances]) -> str:
    adapted = [run for run, values in distances.items() if values.adapted]
    raw = [run for run in distances if run not in adapted]
    if not adapted:
        return "Students' maps are raw, before any adaptation layer."
    others = f"; raw, because they have none: {', '.join(raw)}" if raw else ""
    return f"Through the adaptation layer of their training: {', '.join(adapted)}{others}."
