"""Tables of distances between teacher and student necks, by channel, on objects and background."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from analysis.figures.networks import RunNetworks, annotated_images
from analysis.runs.groups import RunGroup
from kd.common.errors import UserError
from kd.methods.ops.adapters import adapted
from kd.methods.ops.masks import object_mask
from kd.observers import Observation, observe

REGIONS = ("objects", "background")
"""Regions of a map, in the order of ``Distances``."""


class Distances(NamedTuple):
    """Distances of a student to its teacher over all images: on objects, then on background."""

    mean: np.ndarray
    """(2, C): mean distance over the cells of a region; NaN for a region without cells."""
    cells: np.ndarray
    """(2,): numbers of cells."""
    images: int
    stride: int
    """Pixels per cell."""
    adapted: bool
    """True if the student's map went through a trained adaptation layer."""


def compute_tables(
    students: Sequence[RunGroup],
    teacher: Path,
    images: int,
    seed: int,
    level: int,
    use_adapters: bool,
) -> tuple[dict[str, pd.DataFrame], dict[str, Distances]]:
    """Return the distances by run, region and channel, their means, and the distances by run.

    ``use_adapters`` passes the student's map through the adaptation layer of its training, if any.
    """
    teacher_networks = RunNetworks.load(teacher)
    distances = {}
    for group in students:
        student = RunNetworks.load(group.directory)
        adapters = level_adapters(student, level) if use_adapters else ()
        name = f"{group.directory}: images"
        samples = annotated_images(group.directory, images, seed, name=name)
        distances[group.label] = channel_distances(
            student, teacher_networks, samples, level, adapters
        )
    frame = table(distances)
    return {"channel_distance": frame, "channel_distance-means": means(frame)}, distances


def channel_distances(
    student: RunNetworks,
    teacher: RunNetworks,
    samples: Iterable[dict[str, Any]],
    level: int = 0,
    adapters: Any = (),
) -> Distances:
    """Return d_c^R, the mean of |T - S| over the cells of region R, for channel c of a neck level.

    The definition is that of DeFeat's supplement (Guo et al., CVPR 2021), figure 1. ``samples`` are
    those of ``annotated_images``, of which one at a time is in memory. ``adapters`` are layers
    ``level<i>`` for the student's map. UserError if a neck lacks the level, or the maps differ in
    size.
    """
    with torch.no_grad():
        images = [_image_sums(student, teacher, sample, level, adapters) for sample in samples]
    sums, cells, strides = zip(*images, strict=True)
    count = torch.stack(cells).sum(0)
    mean = torch.stack(sums).sum(0) / count[:, None]  # 0 / 0 is NaN
    counts = count.cpu().numpy().astype(int)
    return Distances(mean.cpu().numpy(), counts, len(images), strides[0], bool(adapters))


def _image_sums(
    student: RunNetworks, teacher: RunNetworks, sample: dict[str, Any], level: int, adapters: Any
) -> tuple[Tensor, Tensor, int]:
    """Return sums (2, C) of distances and numbers (2,) of cells by region, and the stride."""
    batch = student.batch(sample)
    student_output = observe(student.detector, batch, frozen=True)
    teacher_output = observe(teacher.detector, batch, frozen=True)
    student_map = adapted(adapters, level, _neck_level(student_output, level, student))
    stride = student_output.strides[level]
    teacher_map = _level_of_stride(teacher_output, stride, level, student, teacher).float()
    _check_sizes(student_map, teacher_map, student, teacher, level)
    # (2, B, H, W), 1 and 0: the cells on any object, and the others.
    size = (student_map.shape[-2], student_map.shape[-1])
    objects = object_mask(batch, stride, size).double()
    masks = torch.stack([objects, 1 - objects])
    distance = (teacher_map - student_map).abs().double()
    # r: regions, b: images, c: channels.
    return torch.einsum("rbhw,bchw->rc", masks, distance), masks.sum((1, 2, 3)), stride


def level_adapters(run: RunNetworks, level: int) -> Any:
    """Return the layers of a run that map a neck level to the teacher's; empty without any.

    They are those of the first method with a layer for this level. UserError if their weights are
    not those of the training.
    """
    name = f"level{level}"
    for adapters in getattr(run.model, "adapters", {}).values():
        if name in adapters:
            run.check_adapters()
            return adapters
    return ()


def _neck_level(output: Observation, level: int, run: RunNetworks) -> Tensor:
    """Return a neck level (B, C, H, W); UserError if the network lacks it."""
    last = len(output.neck) - 1
    if level > last:
        raise UserError(f"level {level}: the neck of {run.directory} has levels 0 to {last}")
    return output.neck[level]


def _level_of_stride(
    output: Observation, stride: int, level: int, student: RunNetworks, teacher: RunNetworks
) -> Tensor:
    """Return the teacher's level (B, C, H, W) of a stride; UserError if its neck has none."""
    if stride not in output.strides:
        raise UserError(
            f"level {level} of the neck of {student.directory} has the stride {stride}; the neck "
            f"of its teacher {teacher.directory} has {', '.join(map(str, output.strides))}"
        )
    return output.neck[[*output.strides].index(stride)]


def _check_sizes(
    student_map: Tensor, teacher_map: Tensor, student: RunNetworks, teacher: RunNetworks, level: int
) -> None:
    if student_map.shape == teacher_map.shape:
        return
    where = f"level {level} of the neck of {student.directory}"
    if student_map.shape[1] != teacher_map.shape[1]:
        raise UserError(
            f"{where} has {student_map.shape[1]} channels, that of the teacher "
            f"{teacher.directory} {teacher_map.shape[1]}; only a run with a layer from one to the "
            "other can be compared, with 'adapted: true'"
        )
    sizes = [" x ".join(map(str, level.shape[-2:])) for level in (student_map, teacher_map)]
    raise UserError(f"{where} has {sizes[0]} cells, that of {teacher.directory} {sizes[1]}")


def table(distances: Mapping[str, Distances]) -> pd.DataFrame:
    """Return a row for each run, region and channel: its ``distance``, and the region's ``cells``.

    The distance is NaN for a region without cells.
    """
    frames = [
        pd.DataFrame(
            {
                "run": run,
                "region": region,
                "cells": values.cells[index],
                "channel": np.arange(values.mean.shape[1]),
                "distance": values.mean[index],
            }
        )
        for run, values in distances.items()
        for index, region in enumerate(REGIONS)
    ]
    return pd.concat(frames, ignore_index=True)


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each run and region of ``table``: the mean over its channels."""
    grouped = frame.groupby(["run", "region", "cells"], sort=False)["distance"]
    return grouped.mean().rename("mean").reset_index()


def describe_changes(averages: pd.DataFrame, reference: str) -> str:
    """Return a sentence with the ``means`` of the reference, and of other runs relative to it."""
    by_run: dict[Any, Any] = averages.pivot(index="run", columns="region", values="mean").to_dict(
        "index"
    )
    base = by_run[reference]
    values = " and ".join(f"{base[region]:.3g} on {region}" for region in REGIONS)
    others = [
        f"{run} " + " and ".join(_change(by_run[run][region], base[region]) for region in REGIONS)
        for run in map(str, averages["run"].unique())
        if run != reference
    ]
    changes = f" Relative to it, on {' and '.join(REGIONS)}: {', '.join(others)}." if others else ""
    return f"Mean over the channels: {reference} {values}.{changes}"


def _change(value: float, reference: float) -> str:
    return f"{value / reference - 1:+.0%}" if reference > 0 else "undefined"
