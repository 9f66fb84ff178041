"""Table of final boxes: the box of each object in each run, its prior, and selected objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from analysis.figures.final_boxes import (
    ObjectBoxes,
    PriorLevel,
    boxes_of_objects,
    check_priors,
    final_boxes_of,
    prior_levels,
    prior_name,
)
from analysis.figures.networks import RunNetworks, annotated_images
from kd.observers import observe

Selection = Literal["easy", "hard", "corrected", "random"]
TEACHER = "Teacher"
CORNERS = ["x1", "y1", "x2", "y2"]
BOX, ANCHOR = ([f"{kind}_{corner}" for corner in CORNERS] for kind in ("box", "anchor"))
IOU_DIGITS = 9
"""Digits of priorities after rounding, which makes those that differ by rounding errors equal."""


@dataclass(frozen=True)
class AnchoredImage:
    """Final boxes of an image's G objects in each run, on the CPU.

    Boxes are xyxy in pixels of the image file.
    """

    path: str
    boxes: torch.Tensor
    labels: torch.Tensor
    levels: list[PriorLevel]
    runs: list[ObjectBoxes]
    """The teacher, then each student."""
    anchors: list[torch.Tensor]
    """By run (G, 4): priors of the boxes; NaN without a box. A point has two equal corners."""


def anchored_images(
    teacher: Path, students: Sequence[Path], count: int | None, seed: int
) -> Iterator[AnchoredImage]:
    """Yield the final boxes of all runs for each image of a sample of the test split.

    UserError if the priors of a student are not those of its teacher.
    """
    runs = [RunNetworks.load(directory) for directory in (teacher, *students)]
    for sample in annotated_images(students[0], count, seed, name="final boxes"):
        with torch.no_grad():
            yield _image(runs, sample)


def _image(runs: Sequence[RunNetworks], sample: dict[str, Any]) -> AnchoredImage:
    batches = [run.batch(sample) for run in runs]
    outputs = [
        observe(run.detector, batch, frozen=True) for run, batch in zip(runs, batches, strict=True)
    ]
    for run, output in zip(runs[1:], outputs[1:], strict=True):
        check_priors(output, outputs[0], run.directory, runs[0].directory)
    meta, boxes, labels = (
        batches[0].samples[0].metainfo,
        batches[0].gt_boxes[0],
        batches[0].gt_labels[0],
    )
    scale = boxes.new_tensor(meta["scale_factor"]).repeat(2)
    run_boxes, anchors = [], []
    for output in outputs:
        final = boxes_of_objects(final_boxes_of(output)[0], boxes, labels)
        priors = output.priors[final.prior.clamp(min=0)]
        anchors.append((priors.masked_fill(final.prior[:, None] < 0, torch.nan) / scale).cpu())
        final_in_file = final._replace(boxes=final.boxes / scale)
        run_boxes.append(ObjectBoxes(*(values.cpu() for values in final_in_file)))
    return AnchoredImage(
        path=meta["img_path"],
        boxes=(boxes / scale).cpu(),
        labels=labels.cpu(),
        levels=prior_levels(outputs[0]),
        runs=run_boxes,
        anchors=anchors,
    )


def compute_tables(
    images: Iterable[AnchoredImage],
    run_names: Sequence[str],
    classes: Sequence[str],
    selections: Sequence[Selection],
    number: int,
    score: float,
    seed: int,
) -> tuple[dict[str, pd.DataFrame], dict[int, Path]]:
    """Return a line for each run and object, and the paths of images by their number.

    The teacher is the first run. ``chosen`` and ``rank`` mark the selected objects.
    """
    lines: list[dict[str, Any]] = []
    paths: dict[int, Path] = {}
    for image_number, image in enumerate(images):
        paths[image_number] = Path(image.path)
        for run, name in enumerate((TEACHER, *run_names)):
            lines += [
                {"run": name, "image": image_number} | _object_line(image, run, index, classes)
                for index in range(len(image.labels))
            ]
    frame = pd.DataFrame(lines)
    return {
        "final_anchors": add_selection(frame, select(frame, selections, number, score, seed))
    }, paths


def _object_line(
    image: AnchoredImage, run: int, index: int, classes: Sequence[str]
) -> dict[str, Any]:
    final, teacher_prior = image.runs[run], int(image.runs[0].prior[index])
    prior = int(final.prior[index])
    return {
        "object": index,
        "file": image.path.rpartition("/")[2],
        "class": classes[int(image.labels[index])],
        **dict(zip(CORNERS, image.boxes[index].tolist(), strict=True)),
        "prior": prior_name(prior, image.levels),
        "same": float(prior == teacher_prior) if min(prior, teacher_prior) >= 0 else np.nan,
        "score": float(final.scores[index]),
        "iou": float(final.iou[index]),
        **dict(zip(BOX, final.boxes[index].tolist(), strict=True)),
        **dict(zip(ANCHOR, image.anchors[run][index].tolist(), strict=True)),
    }


def select(
    frame: pd.DataFrame, selections: Sequence[Selection], number: int, score: float, seed: int
) -> dict[Selection, list[tuple[int, int]]]:
    """Return (image, object) of each selection, ``number`` at most, and no image twice.

    The rules are those of the definition, for boxes with a score of ``score`` or more. Of equal
    objects the lower number of the image, then that of the object, comes first.
    """
    used: set[int] = set()
    selected: dict[Selection, list[tuple[int, int]]] = {}
    priorities = _priorities(frame, score, seed)
    for selection in selections:
        ordered = (
            priorities[selection].round(IOU_DIGITS).sort_values(ascending=False, kind="stable")
        )
        selected[selection] = []
        for image, index in ordered.index:
            if image not in used and len(selected[selection]) < number:
                selected[selection].append((int(image), int(index)))
                used.add(image)
    return selected


def _priorities(
    frame: pd.DataFrame, score: float, seed: int
) -> dict[Selection, "pd.Series[float]"]:
    """Return the priority of the objects that satisfy each rule, by (image, object)."""
    table = frame.set_index(["image", "object", "run"])
    confident = table["score"] >= score
    iou, same = (
        table[column].where(confident).unstack("run").sort_index() for column in ("iou", "same")
    )
    runs = list(frame["run"].unique())
    teacher, student, last = iou[TEACHER], iou[runs[1]], iou[runs[-1]]
    hard = (same[runs[1]] == 0) & (student < teacher)
    corrected = hard & (same[runs[-1]] == 1) & (last > student)
    random = pd.Series(np.random.default_rng(seed).random(len(iou)), iou.index)
    return {
        "corrected": (last - student)[corrected],
        "easy": np.minimum(teacher, student)[same[runs[1]] == 1],
        "hard": (teacher - student)[hard],
        "random": random,
    }


def add_selection(
    frame: pd.DataFrame, selected: Mapping[Selection, Sequence[tuple[int, int]]]
) -> pd.DataFrame:
    """Return the table with ``chosen`` (the selection, or empty) and ``rank`` of the objects."""
    objects = [(key, selection) for selection, keys in selected.items() for key in keys]
    selections = dict(objects)
    ranks = {key: rank for rank, (key, _) in enumerate(objects)}
    keys = list(zip(frame["image"], frame["object"], strict=True))
    return frame.assign(
        chosen=[selections.get(key, "") for key in keys],
        rank=[ranks.get(key, np.nan) for key in keys],
    )


def rule(selection: Selection, runs: Sequence[str]) -> str:
    """Return the rule of a selection with the names of the runs, of which the teacher is first."""
    student, last = runs[1], runs[-1]
    return {
        "easy": f"easy, {student} has the teacher's prior and the worse of both boxes is best",
        "hard": f"hard, {student} has another prior and loses most IoU to the teacher",
        "corrected": (
            f"corrected, {student} has another prior and a worse box than the teacher, and {last}, "
            f"which has the teacher's prior, gains most IoU over {student}"
        ),
        "random": "random, objects at random",
    }[selection]


def describe(frame: pd.DataFrame) -> str:
    """Return the number of images and objects, and of each student's boxes from the same prior."""
    teacher = frame[frame["run"] == TEACHER]
    students = [
        f"{run} {int((lines['same'] == 1).sum())} of {int(lines['same'].notna().sum())}"
        for run, lines in frame[frame["run"] != TEACHER].groupby("run", sort=False)
    ]
    return (
        f"Images: {teacher['image'].nunique()}; objects: {len(teacher)}; with a final box of the "
        f"teacher: {int(teacher['iou'].notna().sum())}. Final boxes from the teacher's prior, of "
        f"the objects with a final box in both: {', '.join(students)}."
    )
