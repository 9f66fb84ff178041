"""How often teacher and students make an object's final box from the same prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

SCORES = {"classification": "class score", "localization": "IoU"}
"""What ranks priors, as an axis names it."""


class RankAgreement(Analysis):
    """Rank agreement (Li et al., AAAI 2022, figures 2 and 4), of students with their teacher, on
    images with objects drawn by seed from the test split; of each row the run of the lowest seed.

    The final box of an object is the detection of its class, after NMS, with the highest IoU, of at
    least 0.5. Agreement is the share of objects, among those with a final box in both, whose two
    boxes were regressed from the same prior (level, row, column and anchor). The paper shows
    examples; the definition in numbers is ours, as is that of difficulty: an object is easy where
    the IoU of the teacher's final box is at least `easy`, else hard.

    Ranks are those of the priors that the detector's assigner makes positive for an object, by the
    score of its class or by the IoU of their boxes with it, over objects with at least two: how
    often both have the same prior first, Spearman's rho (undefined where all scores are equal), and
    KL(teacher || student) of the softmax over the scores, in nats (the paper's equations 5 and 6).
    Intervals are 95 % percentile intervals of 1000 resamples of the images. Sizes are COCO's, of
    boxes in the image file.
    """

    title: ClassVar[str] = "Rank agreement with the teacher"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("rank_agreement", "rank_agreement-objects")
    photographs: ClassVar[tuple[str, ...]] = ("rank_agreement-objects",)
    tables: ClassVar[tuple[str, ...]] = (
        "rank_agreement",
        "rank_agreement-objects",
        "rank_agreement-priors",
    )

    images: PositiveInt | None = 50
    """How many are drawn; null for all."""
    seed: NonNegativeInt = 0
    """Of all that is drawn: images, their resamples, and objects at random."""
    rank: Literal["classification", "localization"] = "classification"
    """What ranks priors: the score of the object's class, or the IoU of their boxes with it."""
    easy: float = 0.75
    """The least IoU of the teacher's final box with an easy object."""
    shown: PositiveInt = 3
    """Objects whose priors are drawn."""
    choice: Literal["disagreement", "random"] = "disagreement"
    """Which: those with the largest KL of the first student, or some at random by the seed."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        from analysis.figures.rank_agreement import plot, ranked_priors
        from analysis.figures.requirements import check
        from analysis.plotting.style import TEACHER
        from analysis.runs.groups import students_of, teacher_of, truth_of

        split = truth_of(groups, library)
        students, teacher = students_of(groups), teacher_of(groups)
        check(frozenset({"rankings"}), students, teacher, library)
        from analysis.figures.rank_agreement.compute import ranked_images

        runs = [group.label for group in students]
        looks = {group.label: group.look for group in students}
        classes = [category["name"] for category in split.coco["categories"]]
        images = ranked_images(
            teacher,
            [group.directory for group in students],
            self.images,
            self.seed,
            self.rank,
        )
        lines, drawn = plot.gather(
            images, runs, classes, self.easy, self.shown, self.choice, self.seed
        )
        frame = plot.summary(lines, self.seed)
        priors = ranked_priors.priors(drawn, runs)
        looks_of_all = {ranked_priors.TEACHER: TEACHER} | looks
        return Results(
            {
                "rank_agreement": plot.plot(frame, looks),
                "rank_agreement-objects": ranked_priors.plot(
                    drawn, priors, looks_of_all, classes, SCORES[self.rank]
                ),
            },
            {
                "rank_agreement": frame,
                "rank_agreement-objects": lines,
                "rank_agreement-priors": priors,
            },
            f"{plot.caption(frame, lines)} {self._drawn(runs, len(drawn))}",
        )

    def _drawn(self, runs: list[str], count: int) -> str:
        from analysis.figures.rank_agreement.ranked_priors import COMPARED

        rule = "at random" if self.choice == "random" else f"where the KL of {runs[0]} is largest"
        left = len(runs) - COMPARED
        return (
            f"Objects drawn: {count}, {rule}. A prior's number is its rank by the teacher's score; "
            "solid, dashed and dotted are the first three of each run; * marks the one that the "
            "final box was regressed from; the object itself is green."
            + (f" Students in the CSV alone: {left}." if left > 0 else "")
        )
