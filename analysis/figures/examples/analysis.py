"""Qualitative pairs: what the baseline and distilled students find in the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from analysis.figures.base import Analysis, Results
from kd.common.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pandas import DataFrame

    from analysis.figures.examples.plot import Choice, Seen
    from analysis.runs.groups import RunGroup
    from kd.config.library import Library

MOST = 4
"""Distilled students that fit beside each other."""


class Examples(Analysis):
    """Images of the test split that gain or lose most by distillation, and some at random.

    An image's figure is the F1 of its detections from a score on, matched to the objects at an
    IoU as COCO does; without an object it has none, and is only chosen at random. Its gain is the
    distilled students' mean F1 less the baseline's; of equal gains, that with more errors avoided
    comes first, then that of the lower image id. Random images are drawn from the rest. Where
    names of boxes would lie on each other some are left out; the CSV has them all.
    """

    title: ClassVar[str] = "What is found before and after distillation"
    reads: ClassVar[tuple[str, ...]] = ("detections.json.gz",)
    pictures: ClassVar[tuple[str, ...]] = ("examples",)
    photographs: ClassVar[tuple[str, ...]] = pictures
    tables: ClassVar[tuple[str, ...]] = ("examples", "examples-boxes")

    choose: Annotated[tuple[Literal["gain", "loss", "random"], ...], Field(min_length=1)] = (
        "gain",
        "loss",
        "random",
    )
    """Which images."""
    number: PositiveInt = 2
    """Images of each choice."""
    iou: float = Field(0.5, ge=0.1, le=1)
    """From which on a detection of an object's class has found it."""
    score: float | None = Field(None, ge=0, le=1)
    """From which on detections count; without it, for each run that at which its F1 over the
    split is highest."""
    seed: NonNegativeInt = 0
    """Of the random images."""

    def run(self, groups: Sequence[RunGroup], library: Library) -> Results:
        """Return the images; UserError without a baseline and a distilled run of one data set."""
        from analysis.figures.examples import plot
        from analysis.matching.matching import read_pairing
        from analysis.runs.groups import truth_of
        from kd.data.readers import image_path

        rows = _rows(groups)
        truth = truth_of(rows, library).coco
        runs = [
            plot.see(row.label, read_pairing(row.directory, truth), self.iou, self.score)
            for row in rows
        ]
        frame = plot.compare(runs[0], runs[1:])
        chosen = plot.choose(frame, self.choose, self.number, self.seed)
        records = {image["id"]: image for image in truth["images"]}
        frame = plot.name(frame, chosen, {key: each["file_name"] for key, each in records.items()})
        images = [image for listed in chosen.values() for image in listed]
        drawn = plot.boxes(runs, images)
        dataset = library.dataset(rows[0].identity["dataset"], str(rows[0].directory))
        pictures = {
            image: plot.load(image_path(dataset, "test", records[image])) for image in images
        }
        return Results(
            {"examples": plot.plot(frame, drawn, pictures)},
            {"examples": frame, "examples-boxes": drawn},
            " ".join(_sentences(frame, runs, chosen, groups)),
        )


def _rows(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Return the baseline and the first distilled students."""
    baselines = [group for group in groups if group.role == "baseline"]
    distilled = [group for group in groups if group.role == "distilled"]
    if len(baselines) > 1:
        listed = ", ".join(str(group.directory) for group in baselines)
        raise UserError(f"several students without distillation: {listed}; give one of them")
    if not baselines or not distilled:
        absent = "distilled student" if baselines else "student trained without distillation"
        raise UserError(f"no run of a {absent}; give its directory too, for they are compared")
    return [baselines[0], *distilled[:MOST]]


def _sentences(
    frame: DataFrame,
    runs: Sequence[Seen],
    chosen: Mapping[Choice, list[Any]],
    groups: Sequence[RunGroup],
) -> Iterator[str]:
    images = frame.drop_duplicates("image")
    gains, losses = (images["gain"] > 0).sum(), (images["gain"] < 0).sum()
    known = images["gain"].notna().sum()
    yield f"Of {known} images with objects {gains} gain and {losses} lose."
    means = frame.groupby("run", sort=False)["f1"].mean()
    listed = [
        f"{each.run} {means[each.run]:.2f} (from the score {each.score:.2f} on)" for each in runs
    ]
    yield f"Mean F1 of an image: {', '.join(listed)}."
    for choice, found in chosen.items():
        if not found:
            yield f"No image to show for '{choice}'."
    if any(len(group.runs) > 1 for group in groups):
        yield "Of several seeds the lowest is shown."
    left = sum(group.role == "distilled" for group in groups) - len(runs) + 1
    if left:
        yield f"The first {MOST} distilled students are compared; {left} more were given."
