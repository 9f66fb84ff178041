"""Soft labels: the teacher's class distribution at each prior (Hinton et al., 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.lazy import LazyModule
from kd.methods.base import Losses, Method, Needs

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observation import Batch, DenseObservation
else:
    F = LazyModule("torch.nn.functional")


class SoftLabels(Method):
    """The baseline of the RM/PFI paper's Table 2 (equation 3).

    The paper states neither temperature, boxes nor weight. Here: the positive priors, T = 1, the
    weight 1. A sigmoid head takes the Bernoulli divergence of each class, averaged over classes; a
    softmax head the categorical one.
    """

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    boxes: Literal["positive", "all"] = "positive"

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"candidates"}))

    def losses(
        self,
        student: DenseObservation,
        teacher: DenseObservation,
        batch: Batch,
        adapters: nn.ModuleDict,
    ) -> Losses:
        """Return ``loss_soft_labels``, a scalar."""
        chosen = student.candidates if self.boxes == "all" else student.candidates.positive
        divergence = categorical_divergence if student.candidate_softmax else bernoulli_divergence
        wanted, found = (model.candidate_logits(chosen) for model in (teacher, student))
        each = divergence(wanted, found, self.temperature)
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
