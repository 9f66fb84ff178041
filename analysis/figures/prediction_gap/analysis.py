"""Settings, definition and caption of the prediction gap against the feature gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class PredictionGap(Analysis):
    """Prediction gap against feature gap (Li et al., AAAI 2022, figure 3).

    Both gaps are differences between a student and its teacher. The images have objects and are
    drawn with `seed` from the test split. The run of the lowest seed represents a row.

    At each cell of a neck level, P_dif is the mean squared difference of the class probabilities
    over classes and anchors. F_dif is the mean squared difference of the neck maps over channels
    (equations 7 and 8). The neck maps are those of padded images, before any adaptation layer.

    The paper shows maps. The numbers are defined here, over the cells of an image: Pearson's and
    Spearman's correlation of both gaps, and the share of the sum of F_dif in the tenth of the cells
    (rounded up) with the highest P_dif. This share is about 0.1 if the gaps are unrelated. All
    three are undefined if a map is constant, for example on a level of one cell.

    The maps mark cells whose features differ although predictions agree, as the paper does by hand:
    their F_dif is in the highest tenth of the cells of the level in this image, and their P_dif is
    below the median. A ring surrounds a group of neighboring cells, the three groups with the
    largest sum of F_dif. All maps of a quantity share one color scale, which ends at the 99th
    percentile of their cells; the paper scales each map by its own extremes.

    Points are means over images. Bars are 95 % percentile intervals of 1000 resamples of the
    images.
    """

    title: ClassVar[str] = "Prediction gap against feature gap"
    question: ClassVar[str] = "Do predictions differ most where features differ most?"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("prediction_gap", "prediction_gap-maps")
    photographs: ClassVar[tuple[str, ...]] = ("prediction_gap-maps",)
    tables: ClassVar[tuple[str, ...]] = (
        "prediction_gap",
        "prediction_gap-images",
        "prediction_gap-marks",
    )

    images: PositiveInt | None = 50
    """Number of images; null for all."""
    seed: NonNegativeInt = 0
    """Seed of the images and of their resamples."""
    examples: PositiveInt = 2
    """Number of images with maps in the picture, the first ones."""
    level: NonNegativeInt = 0
    """Level of the neck in the picture of maps, in the network's order."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the gaps; UserError if maps of student and teacher differ in size or number."""
        from analysis.figures.prediction_gap.alt_text import alt_texts
        from analysis.figures.prediction_gap.compute import compute_tables
        from analysis.figures.prediction_gap.gaps import gap_images
        from analysis.figures.prediction_gap.plot import plot_figures
        from analysis.figures.requirements import check
        from analysis.runs.groups import check_one_dataset, students_of, teacher_of

        check_one_dataset(groups)
        students, teacher = students_of(groups), teacher_of(groups)
        check(frozenset({"neck", "class_maps"}), students, teacher, library)
        directories = [group.directory for group in students]
        images = gap_images(teacher, directories, self.images, self.seed)
        run_names = [group.label for group in students]
        tables, examples = compute_tables(images, run_names, self.examples, self.level, self.seed)
        pictures = plot_figures(tables, looks_of(students), examples, self.level)
        text = caption(tables, self.level)
        return Results(pictures, tables, text, alt_texts(tables, len(examples), self.level))


def caption(tables: dict[str, DataFrame], level: int) -> str:
    """Return Spearman's correlation of each run by level, and the content of the maps."""
    from analysis.figures.prediction_gap.compute import describe, describe_marks
    from analysis.figures.prediction_gap.plot_maps import MOST_STUDENTS

    frame = tables["prediction_gap"]
    omitted = frame["run"].nunique() - MOST_STUDENTS
    sentences = [
        describe(frame),
        f"The maps are those of level {level}; all maps of a quantity share one color scale, cut "
        "at the 99th percentile. Rings mark cells in the highest tenth of F_dif and below the "
        "median of P_dif.",
        describe_marks(frame, level),
    ]
    if omitted > 0:
        sentences.append(f"Students whose maps are not drawn: {omitted}.")
    return " ".join(sentences)
