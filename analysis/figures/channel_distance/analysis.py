"""How far students are from their teacher, channel by channel, on objects and on background."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.figures.channel_distance.compute import Distances
    from analysis.figures.networks import Probe
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class ChannelDistance(Analysis):
    """Per-channel distance (Guo et al., CVPR 2021, supplement, figure 1): d_c is the mean of
    |teacher - student| in channel c of one neck level, over the cells on objects, and over the
    others, of images with objects drawn by seed from the test split. In units of activations.

    A cell is on an object where any ground-truth box covers it, at the level's stride and whatever
    level the object is learned on; the padding of an image is background. Raw maps are those that
    the networks hand to their heads: a method that learned a layer between the two asks only the
    layer's output to be like the teacher. A region without cells has no distance.
    """

    title: ClassVar[str] = "Distance to the teacher by channel"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("channel_distance",)
    tables: ClassVar[tuple[str, ...]] = ("channel_distance", "channel_distance-means")

    images: PositiveInt = 20
    """How many are drawn; fewer where the split has fewer with objects."""
    seed: int = 0
    """Of the draw."""
    level: NonNegativeInt = 0
    """Of the neck, in the network's order."""
    order: Literal["network", "baseline", "own"] = "own"
    """Of the channels on the axis: as in the network, as in the figure of the paper; the largest
    distance of the baseline first; or each run's own largest distance first."""
    adapted: bool = False
    """Whether a student's map is seen through the adaptation layer that its method trained."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        from analysis.figures.channel_distance.plot import changes, means, plot, table
        from analysis.figures.networks import Probe
        from analysis.runs.groups import check_one_dataset, students_of, teacher_of

        check_one_dataset(groups)
        students = students_of(groups)
        teacher = Probe.load(teacher_of(groups))
        measured, adapted = dict[str, "Distances"](), list[str]()
        for group in students:
            measured[group.label], through = self._measure(group.directory, teacher)
            adapted += [group.label] if through else []
        reference = next((s for s in students if s.role == "baseline"), students[0])
        distances = table(measured)
        averages = means(distances)
        looks = {group.label: group.look for group in students}
        caption = [
            _seen(measured[reference.label], self.level),
            _maps(adapted, list(looks)),
            changes(averages, reference.label),
        ]
        return Results(
            {"channel_distance": plot(distances, looks, self.order, reference.label)},
            {"channel_distance": distances, "channel_distance-means": averages},
            " ".join(caption),
        )

    def _measure(self, directory: Path, teacher: Probe) -> tuple[Distances, bool]:
        """Return the distances of a run, and whether its map went through a trained layer."""
        from analysis.figures.channel_distance.compute import channel_distances, level_adapters
        from analysis.figures.networks import Probe, images

        student = Probe.load(directory)
        adapters = level_adapters(student, self.level) if self.adapted else ()
        samples = images(directory, self.images, self.seed, what=f"{directory}: images")
        found = channel_distances(student, teacher, samples, self.level, adapters)
        return found, bool(adapters)


def _seen(found: Distances, level: int) -> str:
    objects, background = found.cells
    return (
        f"Level {level} of the neck, of stride {found.stride} and {found.mean.shape[1]} channels; "
        f"objects cover {objects / (objects + background):.0%} of its {objects + background:,} "
        f"cells in {found.images} images."
    )


def _maps(adapted: list[str], runs: list[str]) -> str:
    raw = [run for run in runs if run not in adapted]
    if not adapted:
        return "Students' maps are raw, before any adaptation layer."
    others = f"; raw, for want of one: {', '.join(raw)}" if raw else ""
    return f"Through the adaptation layer of their training: {', '.join(adapted)}{others}."
