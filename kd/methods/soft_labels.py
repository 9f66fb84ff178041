"""Soft labels: the teacher's class distribution at each prior (Hinton et al., 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.lazy import LazyModule
from kd.methods.base import Losses, Method

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observation import Batch, Observation
else:
    F = LazyModule("torch.nn.functional")


class SoftLabels(Method):
    """The baseline of the RM/PFI paper's Table 2 (equation 3).

    The paper states neither temperature, boxes nor weight. Here: the positive priors, T = 1, the
    weight 1. A sigmoid head takes the Bernoulli divergence of each class, averaged over classes; a
    softmax head the categorical one.
    """

    reads = frozenset({"logits", "assignment"})

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    boxes: Literal["positive", "all"] = "positive"

    def losses(
        self, student: Observation, teacher: Observation, batch: Batch, adapters: nn.ModuleDict
    ) -> Losses:
        """Return ``loss_soft_labels``, a scalar."""
        assert student.assignment is not None
        chosen = student.assignment >= (0 if self.boxes == "positive" else -1)
        divergence = categorical_divergence if student.softmax else bernoulli_divergence
        each = divergence(teacher.logits[chosen], student.logits[chosen], self.temperature)
        return {"loss_soft_labels": self.weight * each.sum() / max(len(each), 1)}


def bernoulli_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 mean_c KL(sigma(z^T/T) || sigma(z^S/T)) from (P, C) logits."""
    wanted, found = teacher.detach() / temperature, student / temperature
    positive = wanted.sigmoid() * (F.logsigmoid(wanted) - F.logsigmoid(found))
    negative = (-wanted).sigmoid() * (F.logsigmoid(-wanted) - F.logsigmoid(-found))
    return temperature**2 * (positive + negative).mean(1)


def categorical_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 KL(softmax(z^T/T) || softmax(z^S/T)) from (P, C) logits."""
    wanted = (teacher.detach() / temperature).log_softmax(1)
    found = (student / temperature).log_softmax(1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(1)
