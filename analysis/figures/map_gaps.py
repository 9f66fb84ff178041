"""Differences of class outputs and of neck maps between a student and its teacher (PFI)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kd.common.errors import UserError
from kd.methods.features.pfi import prediction_gap
from kd.observers import DenseObservation


@dataclass(frozen=True)
class Gap:
    """Differences between student and teacher on a neck level of one image."""

    stride: int
    """Pixels per cell."""
    prediction: np.ndarray
    """(H, W): P_dif, the mean squared difference of class probabilities (equation 7)."""
    feature: np.ndarray
    """(H, W): F_dif, the mean squared difference of the raw neck maps (equation 8)."""


def check_maps(
    student: DenseObservation, teacher: DenseObservation, student_run: Path, teacher_run: Path
) -> None:
    """Raise a UserError if maps of a student and its teacher differ in size or number."""
    for kind, name in (("neck", "neck"), ("class", "class_maps")):
        student_sizes, teacher_sizes = (
            [tuple(level.shape[1:]) for level in getattr(output, name)]
            for output in (student, teacher)
        )
        if student_sizes != teacher_sizes:
            raise UserError(
                f"{student_run}: its {kind} maps cannot be subtracted from those of its teacher "
                f"{teacher_run}: (channels, rows, columns) are {student_sizes} and {teacher_sizes}"
            )


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
    # PFI's loss uses the same formula for both maps.
    return prediction_gap(teacher[:1], student[:1])[0].double().cpu().numpy()
