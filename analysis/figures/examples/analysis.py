"""Settings, definition and caption of examples: detections before and after distillation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results
from kd.common.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

    from analysis.matching.confident import RunOutcome
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

MOST_STUDENTS = 4
"""Distilled students that fit beside each other."""


class Examples(Analysis):
    """Images of the test split on which distillation gains or loses most, and random images.

    The score of an image is the F1 of its detections above a confidence threshold, matched to the
    objects at an IoU as COCO does. An image without an object has no F1, and is only selected at
    random. The gain of an image is the distilled students' mean F1 minus the baseline's. Of equal
    gains, the one with more errors avoided comes first, then the lower image id. Random images are
    drawn from the rest. In each panel the three wrong detections with the highest scores are drawn,
    and names of boxes that would overlap are left out. The CSV file has all boxes.
    """

    title: ClassVar[str] = "Detections before and after distillation"
    question: ClassVar[str] = "Which images did distillation help most, and which least?"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("examples",)
    photographs: ClassVar[tuple[str, ...]] = pictures
    tables: ClassVar[tuple[str, ...]] = ("examples", "examples-boxes")

    choose: Annotated[tuple[Literal["gain", "loss", "random"], ...], Field(min_length=1)] = (
        "gain",
        "loss",
        "random",
    )
    """Selections of images."""
    number: PositiveInt = 1
    """Images of each selection."""
    iou: float = Field(0.5, ge=0.1, le=1)
    """Smallest IoU of a correct detection with an object of its class."""
    score: float | None = Field(None, ge=0, le=1)
    """Smallest confidence of a detection; without it, for each run the one with the highest F1 over
    the split."""
    seed: NonNegativeInt = 0
    """Seed of the random images."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the images; UserError without a baseline and a distilled run of one data set."""
        from analysis.figures.examples.alt_text import alt_texts
        from analysis.figures.examples.compute import compute_tables, load_images, match_runs
        from analysis.figures.examples.plot import plot_figures
        from analysis.runs.groups import truth_of

        compared = compared_groups(groups)
        truth = truth_of(compared, library).coco
        outcomes = match_runs(compared, truth, self.iou, self.score)
        tables = compute_tables(outcomes, truth, self.choose, self.number, self.seed)
        images = load_images(tables["examples"], compared[0], truth, library)
        text = caption(tables, outcomes, groups, self.choose)
        return Results(plot_figures(tables, images), tables, text, alt_texts(tables))


def compared_groups(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Return the baseline and the first distilled students; UserError if either is missing."""
    baselines = [group for group in groups if group.role == "baseline"]
    distilled = [group for group in groups if group.role == "distilled"]
    if len(baselines) > 1:
        directories = ", ".join(str(group.directory) for group in baselines)
        raise UserError(
            f"several students without distillation: {directories}; give only one of them"
        )
    if not baselines or not distilled:
        absent = "distilled student" if baselines else "student trained without distillation"
        raise UserError(f"no run of a {absent}: give the directory of one, to compare the two")
    return [baselines[0], *distilled[:MOST_STUDENTS]]


def caption(
    tables: dict[str, DataFrame],
    outcomes: Sequence[RunOutcome],
    groups: Sequence[RunGroup],
    selections: Sequence[str],
) -> str:
    """Return the numbers of gains and losses, the mean F1 of each run, and omissions."""
    return " ".join(_sentences(tables["examples"], outcomes, groups, selections))


def _sentences(
    frame: DataFrame,
    outcomes: Sequence[RunOutcome],
    groups: Sequence[RunGroup],
    selections: Sequence[str],
) -> Iterator[str]:
    images = frame.drop_duplicates("image")
    gains, losses = (images["gain"] > 0).sum(), (images["gain"] < 0).sum()
    with_objects = images["gain"].notna().sum()
    yield f"Of {with_objects} images with objects, {gains} gain and {losses} lose."
    means = frame.groupby("run", sort=False)["f1"].mean()
    scores = [
        f"{outcome.run} {means[outcome.run]:.2f} (detections from score {outcome.score:.2f})"
        for outcome in outcomes
    ]
    yield f"Mean F1 of an image: {', '.join(scores)}."
    for selection in selections:
        if not (images["chosen"] == selection).any():
            yield f"No image to show for '{selection}'."
    if any(len(group.runs) > 1 for group in groups):
        yield "Rows with several seeds show the lowest seed."
    omitted = sum(group.role == "distilled" for group in groups) - len(outcomes) + 1
    if omitted:
        yield f"The first {MOST_STUDENTS} distilled students are compared, {omitted} are omitted."
