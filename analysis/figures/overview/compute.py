"""Tables of the overview: counts of all images, boxes and cells of the selected one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from analysis.figures.map_gaps import Gap, check_maps, gaps
from analysis.figures.networks import RunNetworks, annotated_dataset, image_of
from analysis.matching.confident import RunOutcome, boxes, count, match_run
from analysis.matching.pairings import read_pairing
from analysis.plotting.detections import CORNERS
from kd.common.errors import UserError
from kd.config.composed import ComposedConfig
from kd.observers import DenseObservation, observe

Choice = Literal["missed", "random"]
TEACHER = "Teacher"
F1_DIGITS = 9
"""Digits of differences after rounding, which makes those that differ by rounding errors equal."""
STATES = {
    (False, False): "both",
    (False, True): "teacher",
    (True, False): "student",
    (True, True): "none",
}
"""Detectors of an object, by its being missed by the teacher and by the student."""


@dataclass(frozen=True)
class OverviewImage:
    """The selected image, as the networks see it, without padding."""

    pixels: np.ndarray
    """(H, W, 3), 0 to 1."""
    scale: tuple[float, float]
    """Width and height of the network's input in units of those of the image file."""
    features: list[np.ndarray]
    """(h, w) of teacher and student: root of the mean square over channels."""
    predictions: list[np.ndarray]
    """(h, w) of teacher and student: highest class probability."""
    gap: Gap


def match_both(
    directories: Sequence[Path],
    student: str,
    truth: Mapping[str, Any],
    iou: float,
    score: float | None,
) -> list[RunOutcome]:
    """Return the outcomes of the teacher and of the student, in the order of ``directories``."""
    return [
        match_run(name, read_pairing(directory, truth), iou, score)
        for name, directory in zip((TEACHER, student), directories, strict=True)
    ]


def compute_tables(
    outcomes: Sequence[RunOutcome],
    directories: Sequence[Path],
    truth: Mapping[str, Any],
    choose: Choice,
    seed: int,
    level: int,
) -> tuple[dict[str, pd.DataFrame], OverviewImage | None]:
    """Return counts by image and run, boxes and cells of the selected image, and that image.

    It is None if no image has an object. UserError if the neck lacks ``level``.
    """
    frame = compare(*(count(outcome) for outcome in outcomes))
    selected = select(frame, choose, seed)
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    frame = frame.assign(file=frame["image"].map(names), chosen=frame["image"].isin(selected))
    image = overview_image(directories, mmdet_id(truth, selected[0]), level) if selected else None
    tables = {
        "overview": frame,
        "overview-boxes": overview_boxes(outcomes, selected),
        "overview-cells": cells(image),
    }
    return tables, image


def compare(teacher: pd.DataFrame, student: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of both runs with ``difference``, F1 of the teacher minus the student's.

    ``fewer`` is the number of objects that the teacher detects minus that of the student.
    """
    difference = (teacher["f1"] - student["f1"]).round(F1_DIGITS)
    fewer = teacher["right"] - student["right"]
    both = [counts.assign(difference=difference, fewer=fewer) for counts in (teacher, student)]
    return pd.concat(both, ignore_index=True)


def select(frame: pd.DataFrame, choose: Choice, seed: int) -> list[Any]:
    """Return the id of the selected image in a list, which is empty if no image has an object."""
    images = frame[frame["difference"].notna()].drop_duplicates("image").sort_values("image")
    if choose == "random":
        order = np.random.default_rng(seed).permutation(len(images))
        return list(images["image"].iloc[order[:1]])
    ordered = images.sort_values(["fewer", "difference"], ascending=False, kind="stable")
    return list(ordered["image"].iloc[:1])


def overview_boxes(outcomes: Sequence[RunOutcome], images: Sequence[Any]) -> pd.DataFrame:
    """Return the boxes of ``confident.boxes``, with the detectors of each object.

    ``detected`` is both, teacher, student or none.
    """
    frame = boxes(outcomes, images)
    first = outcomes[0]
    ids = np.array(first.pairing.images)[first.pairing.objects.image]
    rows = np.flatnonzero(first.matches.counted_objects & np.isin(ids, images))
    teacher, student = (outcome.missed[rows] for outcome in outcomes)
    states = [STATES[key] for key in zip(teacher.tolist(), student.tolist(), strict=True)]
    detected = np.full(len(frame), "", dtype=object)
    detected[(frame["kind"] == "object").to_numpy()] = states
    return frame.assign(detected=detected)


def mmdet_id(truth: Mapping[str, Any], image: Any) -> Any:
    """Return mmdet's id of an image, which is its name in VOC."""
    record = next(record for record in truth["images"] if record["id"] == image)
    return record.get("img_id", image)


def sample_of(dataset: Any, image: Any) -> dict[str, Any]:
    """Return the sample of an image, given by mmdet's id."""
    indices = range(len(dataset))
    return dataset[next(i for i in indices if dataset.get_data_info(i)["img_id"] == image)]


def overview_image(directories: Sequence[Path], image: Any, level: int) -> OverviewImage:
    """Return the maps of teacher and student on an image of the test split, given by mmdet's id.

    UserError if maps of both differ in size or number, or the neck lacks ``level``.
    """
    runs = [RunNetworks.load(directory) for directory in directories]
    dataset = annotated_dataset(ComposedConfig.read(directories[1]), "test", directories[1])
    sample = sample_of(dataset, image)
    with torch.no_grad():
        batches = [run.batch(sample) for run in runs]
        outputs: list[DenseObservation] = [
            observe(run.detector, batch, frozen=True)
            for run, batch in zip(runs, batches, strict=True)
        ]
        teacher, student = outputs
        check_maps(student, teacher, directories[1], directories[0])
        if level >= len(student.neck):
            raise UserError(
                f"'level': {level}, but the neck has levels 0 to {len(student.neck) - 1}"
            )
        features = [output.neck[level][0].float().square().mean(0).sqrt() for output in outputs]
        predictions = [highest_probability(output, level) for output in outputs]
        gap = gaps(student, teacher)[level]
    meta = batches[0].samples[0].metainfo
    height, width = meta["img_shape"]
    return OverviewImage(
        pixels=image_of(batches[0]).numpy()[:height, :width],
        scale=meta["scale_factor"],
        features=[values.cpu().numpy() for values in features],
        predictions=[values.cpu().numpy() for values in predictions],
        gap=gap,
    )


def highest_probability(output: DenseObservation, level: int) -> torch.Tensor:
    """Return the highest class probability (H, W) of each cell of a level in the first image."""
    sizes = [len(priors) for priors in output.level_priors]
    of_level = output.probabilities[0].split(sizes)[level]
    rows, columns = output.class_maps[level].shape[-2:]
    return of_level.reshape(rows, columns, -1).amax(2)


def cells(image: OverviewImage | None) -> pd.DataFrame:
    """Return a line for each cell of the maps."""
    columns = ["stride", "y", "x"]
    columns += [
        f"{run}_{name}" for name in ("feature", "prediction") for run in ("teacher", "student")
    ]
    columns += ["f_dif", "p_dif"]
    if image is None:
        return pd.DataFrame(columns=columns)
    maps = [*image.features, *image.predictions, image.gap.feature, image.gap.prediction]
    y, x = np.indices(image.gap.feature.shape)
    grids = (np.full(y.shape, image.gap.stride), y, x, *maps)
    values = [np.asarray(grid).flatten() for grid in grids]
    return pd.DataFrame(dict(zip(columns, values, strict=True)))


def in_input(frame: pd.DataFrame, scale: Sequence[float]) -> pd.DataFrame:
    """Return boxes with corners in pixels of the network's input instead of those of the file."""
    factors = pd.Series([*scale, *scale], list(CORNERS))
    return frame.assign(**(frame[list(CORNERS)] * factors))
