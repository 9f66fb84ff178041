"""Whether a student's features differ from its teacher's where its predictions do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results
from kd.common.errors import UserError

if TYPE_CHECKING:
    from analysis.figures.prediction_gap.compute import GapImage
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class PredictionGap(Analysis):
    """Prediction gap against feature gap (Li et al., AAAI 2022, figure 3), between students and
    their teacher, on images with objects drawn by seed from the test split; of each row the run of
    the lowest seed.

    At each cell of a neck level P_dif is the mean squared difference of the class probabilities,
    over classes and anchors, and F_dif that of the neck maps, over channels (equations 7 and 8).
    The maps are raw, before any adaptation layer, and those of padded images. The paper shows maps;
    the numbers are ours: over an image's cells Pearson's and Spearman's correlation of the two, and
    the share of the sum of F_dif in the tenth of the cells, rounded up, with the highest P_dif.
    They are undefined where a map is constant, as on a level of one cell. Points are means over
    images, bars 95 % percentile intervals of 1000 resamples of the images.
    """

    title: ClassVar[str] = "Prediction gap against feature gap"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("prediction_gap", "prediction_gap-maps")
    photographs: ClassVar[tuple[str, ...]] = ("prediction_gap-maps",)
    tables: ClassVar[tuple[str, ...]] = ("prediction_gap", "prediction_gap-images")

    images: PositiveInt | None = 50
    """How many are drawn; null for all."""
    seed: NonNegativeInt = 0
    """Of all that is drawn: images and their resamples."""
    shown: PositiveInt = 2
    """Images whose maps are drawn, the first ones."""
    level: NonNegativeInt = 0
    """Of the neck, in the network's order, in the maps."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        from analysis.figures.prediction_gap import plot
        from analysis.figures.prediction_gap.compute import gap_images
        from analysis.figures.requirements import check
        from analysis.runs.groups import check_one_dataset, students_of, teacher_of

        check_one_dataset(groups)
        students, teacher = students_of(groups), teacher_of(groups)
        check(frozenset({"neck", "class_maps"}), students, teacher, library)
        runs = [group.label for group in students]
        directories = [group.directory for group in students]
        kept: list[GapImage] = []
        images = self._keeping(gap_images(teacher, directories, self.images, self.seed), kept)
        lines = plot.table(images, runs)
        frame = plot.summary(lines, self.seed)
        looks = {group.label: group.look for group in students}
        maps = plot.plot_maps(kept, runs, self.level)
        left = len(runs) - plot.COMPARED
        drawn = (
            f" The maps are of level {self.level}, each from its smallest value to its largest"
            + (f"; students whose maps are not drawn: {left}." if left > 0 else ".")
        )
        return Results(
            {"prediction_gap": plot.plot(frame, looks), "prediction_gap-maps": maps},
            {"prediction_gap": frame, "prediction_gap-images": lines},
            plot.caption(frame) + drawn,
        )

    def _keeping(self, images: Iterator[GapImage], kept: list[GapImage]) -> Iterator[GapImage]:
        """Pass images on, and keep those whose maps are drawn."""
        for image in images:
            levels = len(image.students[0])
            if self.level >= levels:
                raise UserError(f"'level': {self.level}, but the neck has levels 0 to {levels - 1}")
            if len(kept) < self.shown:
                kept.append(image)
            yield image
