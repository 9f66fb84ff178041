"""Settings, definition and caption of rank agreement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results, looks_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

SCORES = {"classification": "class score", "localization": "IoU"}
"""Axis label of the score that ranks priors."""


class RankAgreement(Analysis):
    """Agreement of students with their teacher on priors (Li et al., AAAI 2022, figures 2 and 4).

    The images have objects and are drawn with `seed` from the test split. The run of the lowest
    seed represents a row.

    The final box of an object is the detection of its class with the highest IoU after NMS, if that
    is at least 0.5. The first measure is the share of objects whose final boxes in teacher and
    student were regressed from the same prior (level, row, column and anchor). It counts objects
    with a final box in both. The paper shows examples; this measure and the groups of difficulty
    are defined here. An object is easy if the IoU of the teacher's final box is at least `easy`,
    otherwise hard.

    The other measures compare rankings of the priors that the detector's assigner makes positive
    for an object. `rank` selects the score: that of the object's class, or the IoU of the prior's
    box with the object. Objects with fewer than two positive priors are left out. The measures are
    the share of objects for which both rank the same prior first, Spearman's rho (undefined if all
    scores are equal), and KL(teacher || student) of the softmax over the scores, in nats (equations
    5 and 6 of the paper).

    Intervals are 95 % percentile intervals of 1000 resamples of the images. Sizes are those of
    COCO, of boxes in the image file.
    """

    title: ClassVar[str] = "Rank agreement with the teacher"
    question: ClassVar[str] = "Do teacher and student predict an object's box from the same prior?"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("rank_agreement", "rank_agreement-objects")
    photographs: ClassVar[tuple[str, ...]] = ("rank_agreement-objects",)
    tables: ClassVar[tuple[str, ...]] = (
        "rank_agreement",
        "rank_agreement-objects",
        "rank_agreement-priors",
    )

    images: PositiveInt | None = 50
    """Number of images; null for all."""
    seed: NonNegativeInt = 0
    """Seed of the images, of their resamples, and of objects at random."""
    rank: Literal["classification", "localization"] = "classification"
    """Score that ranks priors: that of the object's class, or the IoU of their boxes with it."""
    easy: float = 0.75
    """Smallest IoU of the teacher's final box with an easy object."""
    examples: PositiveInt = 3
    """Number of objects in the picture."""
    choice: Literal["disagreement", "random"] = "disagreement"
    """Objects in the picture: those with the largest KL of the first student, or random ones."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the agreement; UserError if priors of a student are not those of the teacher."""
        from analysis.figures.requirements import check
        from analysis.runs.groups import students_of, teacher_of, truth_of

        split = truth_of(groups, library)
        students, teacher = students_of(groups), teacher_of(groups)
        check(frozenset({"rankings"}), students, teacher, library)
        from analysis.figures.rank_agreement.alt_text import alt_texts
        from analysis.figures.rank_agreement.compute import compute_tables
        from analysis.figures.rank_agreement.plot import plot_figures
        from analysis.figures.rank_agreement.ranking import ranked_images

        classes = [category["name"] for category in split.coco["categories"]]
        run_names = [group.label for group in students]
        directories = [group.directory for group in students]
        images = ranked_images(teacher, directories, self.images, self.seed, self.rank)
        tables, examples = compute_tables(
            images, run_names, classes, self.easy, self.examples, self.choice, self.seed
        )
        pictures = plot_figures(tables, looks_of(students), examples, classes, SCORES[self.rank])
        text = caption(tables, self.choice, len(examples))
        return Results(pictures, tables, text, alt_texts(tables, len(examples)))


def caption(tables: dict[str, DataFrame], choice: str, examples: int) -> str:
    """Return the agreement of each student, and the objects in the picture."""
    from analysis.figures.rank_agreement.compute import describe
    from analysis.figures.rank_agreement.plot_objects import MOST_STUDENTS

    run_names = list(tables["rank_agreement"]["run"].unique())
    rule = "at random" if choice == "random" else f"where the KL of {run_names[0]} is largest"
    sentences = [
        describe(tables["rank_agreement"], tables["rank_agreement-objects"]),
        f"Objects in the picture: {examples}, {rule}. The number of a prior is its rank by the "
        "teacher's score. Solid, dashed and dotted lines are the three best priors of each run; * "
        "marks the prior that the final box was regressed from; the object itself is green.",
    ]
    omitted = len(run_names) - MOST_STUDENTS
    if omitted > 0:
        sentences.append(f"Students in the CSV alone: {omitted}.")
    return " ".join(sentences)
