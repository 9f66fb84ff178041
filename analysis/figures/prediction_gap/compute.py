"""Where predictions differ from the teacher's, and where features do (PFI, figure 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

from analysis.figures.networks import Probe, images, shown
from kd.common.errors import UserError
from kd.methods.pfi import prediction_gap
from kd.observers import DenseObservation, observe

TOP = 0.1
"""Of the cells: those with the highest P_dif."""


@dataclass(frozen=True)
class Gap:
    """A neck level of one image, in student and teacher."""

    stride: int
    """Pixels per cell."""
    prediction: np.ndarray
    """(H, W): P_dif, the mean squared difference of class probabilities (equation 7)."""
    feature: np.ndarray
    """(H, W): F_dif, that of the raw neck maps (equation 8)."""


class Likeness(NamedTuple):
    """How much F_dif is where P_dif is; all NaN where one of them is the same in all cells."""

    pearson: float
    spearman: float
    share: float
    """Of the sum of F_dif, in the tenth of the cells with the highest P_dif."""


@dataclass(frozen=True)
class GapImage:
    """An image, and the gaps of each student by level."""

    path: str
    picture: np.ndarray
    """(H, W, 3), 0 to 1, padded as the network sees it."""
    boxes: np.ndarray
    """(G, 4), ground truth, xyxy in pixels of ``picture``."""
    students: list[list[Gap]]


def gap_images(
    teacher: Path, students: Sequence[Path], count: int | None, seed: int
) -> Iterator[GapImage]:
    """Yield the gaps between runs and their teacher, image by image of the test split.

    UserError where maps of a student and of its teacher differ in size or number.
    """
    first, *others = [Probe.load(directory) for directory in (teacher, *students)]
    for sample in images(students[0], count, seed, what="gaps"):
        with torch.no_grad():
            batch = first.batch(sample)
            wanted = observe(first.detector, batch, frozen=True)
            found = [_gaps_of(probe, sample, wanted, teacher) for probe in others]
        yield GapImage(
            path=batch.samples[0].metainfo["img_path"],
            picture=shown(batch).numpy(),
            boxes=batch.gt_boxes[0].cpu().numpy(),
            students=found,
        )


def _gaps_of(
    probe: Probe, sample: dict[str, Any], wanted: DenseObservation, teacher: Path
) -> list[Gap]:
    found = observe(probe.detector, probe.batch(sample), frozen=True)
    _check_maps("neck", found.neck, wanted.neck, probe.directory, teacher)
    _check_maps("class", found.class_maps, wanted.class_maps, probe.directory, teacher)
    return gaps(found, wanted)


def gaps(student: DenseObservation, teacher: DenseObservation) -> list[Gap]:
    """Return both differences of the first image, by neck level."""
    return [
        Gap(
            stride=stride,
            prediction=_difference(
                teacher.probability_maps[level], student.probability_maps[level]
            ),
            feature=_difference(teacher.neck[level].float(), student.neck[level].float()),
        )
        for level, stride in enumerate(student.strides)
    ]


def _difference(teacher: torch.Tensor, student: torch.Tensor) -> np.ndarray:
    # F_dif is of neck maps what P_dif is of class maps.
    return prediction_gap(teacher[:1], student[:1])[0].double().cpu().numpy()


def likeness(gap: Gap) -> Likeness:
    """Compare the two differences over the cells of a level."""
    prediction, feature = gap.prediction.ravel(), gap.feature.ravel()
    if np.ptp(prediction) == 0 or np.ptp(feature) == 0:
        return Likeness(math.nan, math.nan, math.nan)
    return Likeness(
        pearson=float(pearsonr(prediction, feature).statistic),
        spearman=float(spearmanr(prediction, feature).statistic),
        share=_share(prediction, feature),
    )


def _share(prediction: np.ndarray, feature: np.ndarray) -> float:
    """Return how much of the feature difference lies in the cells of the highest P_dif.

    A tenth of the cells, one at least; cells that tie for the last places share them.
    """
    places = math.ceil(TOP * len(prediction))
    last = np.sort(prediction)[-places]
    above, tied = prediction > last, prediction == last
    mass = feature[above].sum() + (places - above.sum()) * feature[tied].mean()
    return float(mass / feature.sum())


def _check_maps(
    what: str, student: list[torch.Tensor], teacher: list[torch.Tensor], run: Path, taught_by: Path
) -> None:
    own, theirs = ([tuple(level.shape[1:]) for level in maps] for maps in (student, teacher))
    if own != theirs:
        raise UserError(
            f"{run}: its {what} maps cannot be subtracted from those of its teacher {taught_by}: "
            f"(channels, rows, columns) are {own} and {theirs}"
        )
