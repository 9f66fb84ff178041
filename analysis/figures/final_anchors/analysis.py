"""Settings, definition and caption of final boxes and their priors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results
from kd.common.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.figures.final_anchors.compute import Selection
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class FinalAnchors(Analysis):
    """Final boxes of objects and the priors they were regressed from (RM/PFI, figures 2 and 5).

    The paper is Li et al., AAAI 2022. The final box of an object is the detection of its class with
    the highest IoU after NMS, if that is at least 0.5. Its prior is the anchor (a point in FCOS)
    whose box output was decoded to that box. Teacher and students have the same priors.

    The paper shows objects that its authors selected. Here a rule selects them, among the objects
    of images that are drawn with `seed` from the test split. The run of the lowest seed represents
    a row. `easy`: the first student's box comes from the teacher's prior; objects whose worse box
    of the two has the highest IoU. `hard`: its box comes from another prior and has a lower IoU
    than the teacher's; objects with the largest difference. `corrected`: of these, the last
    student's box comes from the teacher's prior and has a higher IoU than the first student's;
    objects with the largest gain. The boxes that a rule compares have a score of `score` or more.
    `random`: objects at random, whatever their boxes. Of equal objects the first image comes first.
    An image is used once.

    All panels of an object show the same part of its image.
    """

    title: ClassVar[str] = "Final boxes and their priors"
    question: ClassVar[str] = "Which prior does the final box of an object come from?"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth",)
    pictures: ClassVar[tuple[str, ...]] = ("final_anchors",)
    photographs: ClassVar[tuple[str, ...]] = pictures
    tables: ClassVar[tuple[str, ...]] = ("final_anchors",)

    images: PositiveInt | None = 50
    """Number of images; null for all."""
    seed: NonNegativeInt = 0
    """Seed of the images, and of objects at random."""
    choose: Annotated[
        tuple[Literal["easy", "hard", "corrected", "random"], ...], Field(min_length=1)
    ] = ("easy", "hard")
    """Selections of objects, in the order of the picture."""
    number: PositiveInt = 2
    """Objects of each selection."""
    score: float = Field(0.2, ge=0, le=1)
    """Smallest score of the boxes that a rule compares."""
    students: PositiveInt = 3
    """Number of students, the first ones; ``corrected`` needs two."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the boxes; UserError if priors of a student are not those of the teacher."""
        from analysis.figures.requirements import check
        from analysis.runs.groups import students_of, teacher_of, truth_of

        split = truth_of(groups, library)
        students, teacher = students_of(groups)[: self.students], teacher_of(groups)
        check(frozenset({"rankings"}), students, teacher, library)
        if "corrected" in self.choose and len(students) < 2:
            raise UserError(
                "'choose': 'corrected' compares two students; give a second run, or leave it out"
            )
        from analysis.figures.final_anchors.alt_text import alt_texts
        from analysis.figures.final_anchors.compute import anchored_images, compute_tables
        from analysis.figures.final_anchors.plot import plot_figures

        classes = [category["name"] for category in split.coco["categories"]]
        run_names = [group.label for group in students]
        directories = [group.directory for group in students]
        images = anchored_images(teacher, directories, self.images, self.seed)
        tables, paths = compute_tables(
            images, run_names, classes, self.choose, self.number, self.score, self.seed
        )
        pictures = plot_figures(tables, paths, self.choose)
        text = caption(tables, self.choose)
        return Results(pictures, tables, text, alt_texts(tables, self.choose))


def caption(tables: dict[str, DataFrame], choose: Sequence[Selection]) -> str:
    """Return the number of boxes from the teacher's prior by run, and the rule of each object."""
    from analysis.figures.final_anchors.compute import describe, rule

    frame = tables["final_anchors"]
    runs = [str(run) for run in frame["run"].unique()]
    rules = [rule(selection, runs) for selection in choose]
    empty = [choice for choice in choose if not (frame["chosen"] == choice).any()]
    sentences = [describe(frame), f"Objects in the picture: {'; '.join(rules)}."]
    if empty:
        sentences.append(f"No object satisfies the rule of {', '.join(empty)}.")
    return " ".join(sentences)
