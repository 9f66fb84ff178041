"""Differences of predictions and of features between student and teacher (PFI, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import find_objects, label
from scipy.stats import pearsonr, spearmanr

from analysis.figures.map_gaps import Gap, check_maps, gaps
from analysis.figures.networks import RunNetworks, annotated_images, image_of
from kd.observers import observe

TOP = 0.1
"""Share of the cells with the highest values of a map."""


class Similarity(NamedTuple):
    """Similarity of F_dif and P_dif over cells; all NaN if one of them is constant."""

    pearson: float
    spearman: float
    share: float
    """Share of the sum of F_dif in the tenth of the cells with the highest P_dif."""


@dataclass(frozen=True)
class Mark:
    """A group of neighboring cells whose features differ although their predictions agree."""

    box: np.ndarray
    """(4,): xyxy in pixels of the network's input."""
    cells: int
    prediction: float
    """Mean of P_dif over the cells."""
    feature: float
    """Sum of F_dif over the cells."""


@dataclass(frozen=True)
class GapImage:
    """Image with the gaps of each student by level."""

    path: str
    pixels: np.ndarray
    """(H, W, 3), 0 to 1, with the padding of the network's input."""
    boxes: np.ndarray
    """(G, 4): ground truth, xyxy in pixels of ``pixels``."""
    students: list[list[Gap]]


def gap_images(
    teacher: Path, students: Sequence[Path], count: int | None, seed: int
) -> Iterator[GapImage]:
    """Yield images of the test split with the gaps between students and their teacher.

    UserError if maps of a student and of its teacher differ in size or number.
    """
    teacher_run, *student_runs = [RunNetworks.load(run) for run in (teacher, *students)]
    for sample in annotated_images(students[0], count, seed, name="gaps"):
        with torch.no_grad():
            batch = teacher_run.batch(sample)
            teacher_output = observe(teacher_run.detector, batch, frozen=True)
            image_gaps = []
            for run in student_runs:
                output = observe(run.detector, run.batch(sample), frozen=True)
                check_maps(output, teacher_output, run.directory, teacher)
                image_gaps.append(gaps(output, teacher_output))
        yield GapImage(
            path=batch.samples[0].metainfo["img_path"],
            pixels=image_of(batch).numpy(),
            boxes=batch.gt_boxes[0].cpu().numpy(),
            students=image_gaps,
        )


def similarity(gap: Gap) -> Similarity:
    """Return the similarity of the two differences over the cells of a level."""
    prediction, feature = gap.prediction.ravel(), gap.feature.ravel()
    if np.ptp(prediction) == 0 or np.ptp(feature) == 0:
        return Similarity(math.nan, math.nan, math.nan)
    return Similarity(
        pearson=float(pearsonr(prediction, feature).statistic),
        spearman=float(spearmanr(prediction, feature).statistic),
        share=_share(prediction, feature),
    )


def _share(prediction: np.ndarray, feature: np.ndarray) -> float:
    """Return the share of the feature difference in the tenth of the cells with the highest P_dif.

    At least one cell counts. Cells that tie for the last places share these places equally.
    """
    places = math.ceil(TOP * len(prediction))
    last = np.sort(prediction)[-places]
    above, tied = prediction > last, prediction == last
    mass = feature[above].sum() + (places - above.sum()) * feature[tied].mean()
    return float(mass / feature.sum())


def apart(gap: Gap) -> np.ndarray:
    """Return the cells (H, W) whose features differ although their predictions agree.

    F_dif of such a cell is in the highest tenth of the level, and P_dif is below the median. No
    cell is if one of the maps is constant.
    """
    if np.ptp(gap.prediction) == 0 or np.ptp(gap.feature) == 0:
        return np.zeros(gap.feature.shape, dtype=bool)
    return _highest(gap.feature) & (gap.prediction < np.median(gap.prediction))


def apart_share(gap: Gap) -> float:
    """Return the share of the tenth of the cells with the highest F_dif that are ``apart``.

    It is about 0.5 if the maps are unrelated, and NaN if one of them is constant.
    """
    if np.ptp(gap.prediction) == 0 or np.ptp(gap.feature) == 0:
        return math.nan
    return float(apart(gap).sum() / _highest(gap.feature).sum())


def marks(gap: Gap, most: int) -> list[Mark]:
    """Return the groups of neighboring cells that are ``apart``, those of the largest F_dif first.

    Cells that share a side or a corner are neighbors. There are ``most`` groups at most.
    """
    groups, _ = label(apart(gap), structure=np.ones((3, 3)))
    regions = []
    for group, (rows, columns) in enumerate(find_objects(groups), start=1):
        cells = groups == group
        corners = [columns.start, rows.start, columns.stop, rows.stop]
        regions.append(
            Mark(
                box=gap.stride * np.array(corners, float),
                cells=int(cells.sum()),
                prediction=float(gap.prediction[cells].mean()),
                feature=float(gap.feature[cells].sum()),
            )
        )
    return sorted(regions, key=lambda mark: -mark.feature)[:most]


def _highest(values: np.ndarray) -> np.ndarray:
    """Return the cells (H, W) of the highest tenth, at least one; ties for the last place count."""
    places = math.ceil(TOP * values.size)
    return values >= np.sort(values, axis=None)[-places]
