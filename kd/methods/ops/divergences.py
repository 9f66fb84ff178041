"""Divergences of class distributions, from the logits of teacher and student."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor
else:
    F = LazyModule("torch.nn.functional")


def bernoulli_divergence(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float
) -> Tensor:
    """Return (P,) T^2 mean_c KL(sigma(z^T/T) || sigma(z^S/T)) from (P, C) logits."""
    teacher, student = teacher_logits.detach() / temperature, student_logits / temperature
    # 1 - sigma(z) is sigma(-z), whose logarithm does not cancel for large z.
    positive = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    negative = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return temperature**2 * (positive + negative).mean(1)


def categorical_divergence(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float
) -> Tensor:
    """Return (P,) T^2 sum_c KL(softmax(z^T/T) || softmax(z^S/T)) from (P, C) logits."""
    teacher = (teacher_logits.detach() / temperature).log_softmax(1)
    student = (student_logits / temperature).log_softmax(1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(1)


def side_divergence(teacher_logits: Tensor, student_logits: Tensor, temperature: float) -> Tensor:
    """Return (P,) the mean over sides of T^2 KL from the logits (P, 4, R + 1) of distributions."""
    rows = teacher_logits.flatten(0, 1), student_logits.flatten(0, 1)
    return categorical_divergence(*rows, temperature).unflatten(0, teacher_logits.shape[:2]).mean(1)


def focused_entropy(teacher_logits: Tensor, student_logits: Tensor, power: float) -> Tensor:
    """Return, in the shape of both, |p^T - p^S|^power BCE(p^T, p^S) of p = sigmoid(logits).

    It is the quality focal loss (Li et al., NeurIPS 2020) with the teacher's probability as its
    target. BCE is the cross-entropy; the weight |p^T - p^S|^power has a gradient, too.
    """
    teacher = teacher_logits.detach().sigmoid()
    entropy = F.binary_cross_entropy_with_logits(student_logits, teacher, reduction="none")
    return entropy * (teacher - student_logits.sigmoid()).abs().pow(power)
