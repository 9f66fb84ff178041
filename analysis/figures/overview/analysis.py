"""Settings, definition and caption of the overview of a teacher and a student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from analysis.figures.base import Analysis, Results

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.runs.groups import RunGroup
    from kd.config.library import Library


class Overview(Analysis):
    """Features, dense predictions and detections of teacher and student (RM/PFI, figure 1).

    The paper is Li et al., AAAI 2022. The student is the first run that is not the teacher; the run
    of its lowest seed represents it. Both networks see the same image of the test split.

    Features are the root of the mean square over the channels of a neck level, before any
    adaptation layer. The dense prediction of a cell is the highest class probability over its
    anchors and classes. The third row shows their differences as PFI defines them (equations 7 and
    8): F_dif and P_dif are mean squared differences over channels, and over classes and anchors.
    Teacher and student share one color scale, and each difference has its own.

    Detections are those from a score on that pycocotools matches to objects at `iou`. In each panel
    the three wrong detections with the highest scores are drawn. In the third row, the look of
    an object's box shows which of both detect it.

    The paper shows an image that its authors selected. Here a rule selects it: `missed` is the
    image where the student detects the fewest objects compared with the teacher. Of equal images
    the one where the teacher's F1 exceeds the student's most comes first, then the lower id.
    """

    title: ClassVar[str] = "Teacher and student on one image"
    question: ClassVar[str] = "Where do teacher and student differ: features, outputs, detections?"
    reads: ClassVar[tuple[str, ...]] = ("weights.pth", "detections.json.gz")
    pictures: ClassVar[tuple[str, ...]] = ("overview",)
    photographs: ClassVar[tuple[str, ...]] = pictures
    tables: ClassVar[tuple[str, ...]] = ("overview", "overview-boxes", "overview-cells")

    choose: Literal["missed", "random"] = "missed"
    """Image: the one where the student misses most of what the teacher detects, or a random one."""
    seed: NonNegativeInt = 0
    """Seed of a random image."""
    level: NonNegativeInt = 0
    """Level of the neck whose maps are shown, in the network's order."""
    iou: float = Field(0.5, ge=0.1, le=1)
    """Smallest IoU of a correct detection with an object of its class."""
    score: float | None = Field(None, ge=0, le=1)
    """Smallest confidence of a detection; without it, for each run the one with the highest F1 over
    the split."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the overview; UserError if maps of both differ in size, or lack the level."""
        from analysis.figures.requirements import check
        from analysis.runs.groups import students_of, teacher_of, truth_of

        truth = truth_of(groups, library).coco
        student, teacher = students_of(groups)[0], teacher_of(groups)
        check(frozenset({"neck", "class_maps"}), [student], teacher, library)
        from analysis.figures.overview.alt_text import alt_texts
        from analysis.figures.overview.compute import compute_tables, match_both
        from analysis.figures.overview.plot import plot_figures

        directories = (teacher, student.directory)
        outcomes = match_both(directories, student.label, truth, self.iou, self.score)
        tables, image = compute_tables(
            outcomes, directories, truth, self.choose, self.seed, self.level
        )
        pictures = plot_figures(tables, image)
        text = caption(tables, [outcome.score for outcome in outcomes], self.choose)
        return Results(pictures, tables, text, alt_texts(tables))


def caption(tables: dict[str, DataFrame], scores: Sequence[float], choose: str) -> str:
    """Return the image and its rule, and the F1 of both runs."""
    frame = tables["overview"]
    lines = frame[frame["chosen"]]
    if lines.empty:
        return "No image of the test split has an object, so there is none to show."
    teacher, student = frame["run"].unique()
    images = frame.loc[frame["difference"].notna(), "image"].nunique()
    rule = (
        "a random image with an object"
        if choose == "random"
        else f"of {images} images with objects, the one where {student} detects the fewest objects "
        f"compared with {teacher}"
    )
    runs = [
        f"{line['run']} {line['f1']:.2f} (detections from score {score:.2f})"
        for line, score in zip(lines.to_dict("records"), scores, strict=True)
    ]
    stride = tables["overview-cells"]["stride"].iloc[0]
    return (
        f"Image {lines['file'].iloc[0]}: {rule}. F1: {', '.join(runs)}. Maps have a stride of "
        f"{stride} pixels."
    )
