"""Soft labels: the teacher's class distribution at each candidate (Hinton et al., 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates
else:
    torch = LazyModule("torch")
    F = LazyModule("torch.nn.functional")


class SoftLabels(Method):
    """The baseline of the RM/PFI paper's Table 2 (equation 3), and variants of other sources.

    That table's temperature, boxes and weight are not published, so no default here is known to be
    what it was made with: positive candidates, T = 1, weight 1, the mean over candidates. DeFeat's
    code has T = 1 and the weight 2 on the RoIs of Faster R-CNN; DICOD's T = 2 and 0.4 on the
    positives of SSD; LD's is the preset ``soft_labels_ld``.
    """

    title = "Soft labels"
    weights: ClassVar = {
        "loss_soft_labels": "weight",
    }

    weight: NonNegativeFloat = 1.0
    temperature: PositiveFloat = 1.0
    boxes: Literal["positive", "negative", "all", "teacher_correct"] = "positive"
    """Candidates with an object, without (those an assigner ignores among them), or all.

    ``teacher_correct``: those whose likeliest class is the label in the teacher's eyes, background
    included where the head has a class for it (DeFeat's code, ggjy/DeFeat.pytorch c46a793d).
    """
    form: Literal["head", "softmax"] = "head"
    """``head``: a Bernoulli divergence per class of a sigmoid head, a categorical one of a softmax.

    ``softmax``: the categorical one over the classes of a sigmoid head too, as LD's code
    (HikariTJU/LD 67020e66). It does not see how confident a model is, and is 0 for one class.
    """
    over_classes: Literal["sum", "mean"] | None = None
    """Of a candidate's terms; none: the mean of Bernoulli terms, the sum of categorical ones."""
    over_levels: Literal["mean", "sum_of_means"] = "mean"
    """One mean over all candidates, or the sum of the means over each level's (LD)."""

    @property
    def needs(self) -> Needs:
        # Regions of a second stage belong to no level.
        by_level = {"class_maps"} if self.over_levels == "sum_of_means" else set()
        return Needs(both=frozenset({"candidates"} | by_level))

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_soft_labels``, a scalar."""
        chosen = self._chosen(student, teacher, batch)
        wanted, found = (model.candidate_logits(chosen) for model in (teacher, student))
        categorical = student.candidate_softmax or self.form == "softmax"
        divergence = categorical_divergence if categorical else bernoulli_divergence
        each = divergence(wanted, found, self.temperature)
        if self.over_classes == "mean" and categorical:
            each = each / wanted.shape[1]
        elif self.over_classes == "sum" and not categorical:
            each = each * wanted.shape[1]
        if self.over_levels == "mean":
            return {"loss_soft_labels": self.weight * each.sum() / shared_count(len(each))}
        level = levels_of(chosen, student)
        totals = each.new_zeros(len(student.level_priors)).index_add(0, level, each)
        counts = torch.bincount(level, minlength=len(totals))
        return {"loss_soft_labels": self.weight * (totals / shared_count(counts)).sum()}

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the student's boxes at the positives among the chosen candidates."""
        chosen = self._chosen(student, teacher, batch).positive
        return Focus(boxes={"chosen": student.candidate_boxes(chosen[chosen.image == 0])})

    def _chosen(self, student: Any, teacher: Any, batch: Batch) -> Candidates:
        candidates = student.candidates
        if self.boxes == "all":
            return candidates
        if self.boxes == "teacher_correct":
            logits = teacher.candidate_logits(candidates)
            background = logits.shape[1] - 1 if student.candidate_softmax else -1
            return candidates[logits.argmax(1) == labels_of(candidates, batch, background)]
        return candidates[(candidates.instance >= 0) == (self.boxes == "positive")]


def labels_of(candidates: Candidates, batch: Batch, background: int) -> Tensor:
    """Return the class (P,) of each candidate, ``background`` where it has no object."""
    labels = torch.full_like(candidates.index, background)
    labels[candidates.instance >= 0] = candidates.positive.labels(batch)
    return labels


def levels_of(candidates: Candidates, student: Any) -> Tensor:
    """Return the neck level (P,) of candidates that are priors."""
    ends = torch.tensor([len(priors) for priors in student.level_priors]).cumsum(0)
    return torch.bucketize(candidates.index, ends.to(candidates.index.device), right=True)


def bernoulli_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 mean_c KL(sigma(z^T/T) || sigma(z^S/T)) from (P, C) logits."""
    wanted, found = teacher.detach() / temperature, student / temperature
    positive = wanted.sigmoid() * (F.logsigmoid(wanted) - F.logsigmoid(found))
    negative = (-wanted).sigmoid() * (F.logsigmoid(-wanted) - F.logsigmoid(-found))
    return temperature**2 * (positive + negative).mean(1)


def categorical_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return (P,) T^2 sum_c KL(softmax(z^T/T) || softmax(z^S/T)) from (P, C) logits."""
    wanted = (teacher.detach() / temperature).log_softmax(1)
    found = (student / temperature).log_softmax(1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(1)
