"""Soft labels: the teacher's class distribution at each candidate (Hinton et al., 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.candidates import classified_correctly
from kd.methods.ops.divergences import bernoulli_divergence, categorical_divergence
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, Candidates
else:
    torch = LazyModule("torch")


class SoftLabels(Method):
    """The teacher's class distribution at each candidate.

    Loss: T^2 times the KL divergence of the student's class distribution from the teacher's at the
    same candidate, averaged over the compared candidates (equation 3 of the RM/PFI paper). A
    sigmoid head has one Bernoulli divergence per class, a softmax head one categorical divergence.

    Code: variants in DeFeat, DICOD and LD. DeFeat has T = 1 and a weight of 2 on the RoIs of Faster
    R-CNN. DICOD has T = 2 and a weight of 0.4 on the positive candidates of SSD. Preset
    ``soft_labels_ld`` is LD's form.

    Unknown: temperature, candidates and weight of the RM/PFI paper's Table 2. The defaults are our
    choice: positive candidates (``boxes``), T = 1 (``temperature``), a weight of 1 (``weight``) and
    the mean over candidates.
    """

    title = "Soft labels"
    cite = "hinton2015distilling"
    weights: ClassVar = {
        "loss_soft_labels": "weight",
    }

    weight: NonNegativeFloat = 1.0
    """Weight of the term."""
    temperature: PositiveFloat = 1.0
    """T, which divides the logits of both models. The divergence is multiplied by T^2."""
    boxes: Literal["positive", "negative", "all", "teacher_correct"] = "positive"
    """Candidates that are compared: those with an object, those without (an assigner's ignored ones
    are among them), or all.

    ``teacher_correct``: those whose label is the teacher's likeliest class. Background counts as a
    class if the head has an output for it (DeFeat's code, ggjy/DeFeat.pytorch c46a793d).
    """
    form: Literal["head", "softmax"] = "head"
    """Divergence. ``head``: one Bernoulli divergence per class of a sigmoid head, a categorical one
    of a softmax head.

    ``softmax``: a categorical one over the classes of a sigmoid head too, as in LD's code
    (HikariTJU/LD 67020e66). It ignores how confident a model is, and is 0 for a single class.
    """
    over_classes: Literal["sum", "mean"] | None = None
    """Reduction of a candidate's terms over classes. None: the mean of Bernoulli divergences, the
    sum in a categorical one. The mean in a categorical one (LD's code) divides a divergence by the
    number of classes. LD's weight of 10 is published for the 80 classes of COCO and has ten times
    the effect with 8."""
    over_levels: Literal["mean", "sum_of_means"] = "mean"
    """Reduction over candidates: one mean over all, or the sum of the means of each level (LD)."""

    @property
    def needs(self) -> Needs:
        # Regions of a second stage belong to no level.
        by_level = {"class_maps"} if self.over_levels == "sum_of_means" else set()
        return Needs(both=frozenset({"candidates"} | by_level))

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_soft_labels``, a scalar."""
        candidates = self._compared_candidates(student, teacher, batch)
        teacher_logits, student_logits = (
            model.candidate_logits(candidates) for model in (teacher, student)
        )
        categorical = student.candidate_softmax or self.form == "softmax"
        divergence = categorical_divergence if categorical else bernoulli_divergence
        divergences = divergence(teacher_logits, student_logits, self.temperature)
        classes = teacher_logits.shape[1]
        if self.over_classes == "mean" and categorical:
            divergences = divergences / classes
        elif self.over_classes == "sum" and not categorical:
            divergences = divergences * classes
        if self.over_levels == "mean":
            mean = self.weight * divergences.sum() / shared_count(len(divergences))
            return {"loss_soft_labels": mean}
        level = levels_of(candidates, student)
        sums = divergences.new_zeros(len(student.level_priors)).index_add(0, level, divergences)
        counts = torch.bincount(level, minlength=len(sums))
        return {"loss_soft_labels": self.weight * (sums / shared_count(counts)).sum()}

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the student's boxes of the compared candidates that have an object."""
        positive = self._compared_candidates(student, teacher, batch).positive
        return Focus(
            boxes={"positive boxes": student.candidate_boxes(positive[positive.image == 0])}
        )

    def _compared_candidates(self, student: Any, teacher: Any, batch: Batch) -> Candidates:
        candidates = student.candidates
        if self.boxes == "all":
            return candidates
        if self.boxes == "teacher_correct":
            logits = teacher.candidate_logits(candidates)
            background = logits.shape[1] - 1 if student.candidate_softmax else -1
            return classified_correctly(candidates, logits, batch, background)
        return candidates[(candidates.instance >= 0) == (self.boxes == "positive")]


def levels_of(candidates: Candidates, student: Any) -> Tensor:
    """Return the neck level (P,) of candidates that are priors."""
    ends = torch.tensor([len(priors) for priors in student.level_priors]).cumsum(0)
    return torch.bucketize(candidates.index, ends.to(candidates.index.device), right=True)
