"""FRS: neck maps weighted by the teacher's best score of a cell (Du et al., NeurIPS 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import adapted, squared_distance
from kd.methods.ops.levels import channel_pairs, resized, shared_levels
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Channels, Progress
else:
    F = LazyModule("torch.nn.functional")
    nn = LazyModule("torch.nn")

LEAST_SUM = 1e-6
"""Smallest sum of scores that divides a term; a level without any score has a term of 0."""


class FeatureRichness(Method):
    """Neck maps and class outputs, weighted by the teacher's best score of a cell.

    Loss: the feature richness score S of a cell is the teacher's highest probability over its
    classes and priors. Neck maps have the squared difference, summed over channels, and class
    outputs the binary cross-entropy with the teacher's probabilities, summed over classes and
    priors. Both are averaged over the cells of a level with the weights S, and summed over levels.

    Code: official (duzhixing/FRS decd60c5) and United-Perception (52aaeb9e), which compute the same
    terms. A 3x3 convolution with torch's initial weights precedes the comparison of maps. The
    weights of the defaults are those of RetinaNet and, with two stages, of Faster R-CNN, whose RPN
    has the scores. Presets ``frs_gfl`` and ``frs_fcos`` have those of GFL and FCOS. The published
    weight of neck maps on GFL is 20 times that on RetinaNet, and squares are divided neither by the
    number of channels nor by that of levels. So the neck term outweighs detection at the start of a
    training: on GFL at scale smoke, and without the warm-up, its gradient at the neck was 13 times
    that of detection with the weight of RetinaNet, and 250 times with that of GFL.

    Here: levels are those whose strides both detectors have. The class outputs of two different
    detectors are not comparable, so such a pair needs a ``class_weight`` of 0. The warm-up takes at
    most ``warmup_share`` of a training.
    """

    title = "FRS"
    cite = "du2021distilling"
    weights: ClassVar = {
        "loss_frs_neck": "feature_weight",
        "loss_frs_cls": "class_weight",
    }
    across_pyramids = True

    feature_weight: NonNegativeFloat = 0.005
    """Weight of the term of neck maps; 0 leaves it out, with its layers."""
    class_weight: NonNegativeFloat = 0.02
    """Weight of the term of class outputs; 0 leaves it out."""
    warmup_steps: NonNegativeInt = 500
    """Steps over which both weights rise linearly from 0."""
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of the training that the warm-up takes. 500 steps are less than this share in
    every schedule of the paper, but most of a training at the small scales."""

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        return {"feature_weight": 0.002, "class_weight": 0.1} if two_stage else {}

    @property
    def needs(self) -> Needs:
        scores = frozenset({"score_maps"})
        compared = scores if self.class_weight else frozenset()
        neck = frozenset({"neck"} if self.feature_weight else ())
        return Needs(both=compared | neck, of_teacher=scores)

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 3x3 convolution for each level of the student that the teacher has, too."""
        if not self.feature_weight:
            return {}
        channels = channel_pairs(student, teacher, shared_levels(student.strides, teacher.strides))
        return {
            f"level{level}": nn.Conv2d(*widths, 3, padding=1) for level, widths in channels.items()
        }

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_frs_neck`` and ``loss_frs_cls``, by level.

        A term of weight 0 is left out.
        """
        rate = self._rate(batch.progress)
        losses: dict[str, list[Tensor]] = {}
        for level, teacher_level in shared_levels(student.strides, teacher.strides):
            scores = best_scores(teacher.class_maps[teacher_level])
            if self.feature_weight:
                teacher_map = teacher.neck[teacher_level]
                student_map = resized(adapted(adapters, level, student.neck[level]), teacher_map)
                mean = weighted_mean(squared_distance(student_map, teacher_map), scores)
                losses.setdefault("loss_frs_neck", []).append(rate * self.feature_weight * mean)
            if self.class_weight:
                probabilities = teacher.class_maps[teacher_level].detach().sigmoid()
                entropy = F.binary_cross_entropy_with_logits(
                    student.class_maps[level], probabilities, reduction="none"
                ).sum(1)
                mean = weighted_mean(entropy, scores)
                losses.setdefault("loss_frs_cls", []).append(rate * self.class_weight * mean)
        return dict(losses)

    def _rate(self, progress: Progress) -> float:
        """Return the factor of the warm-up, 0 to 1, at a step."""
        longest = self.warmup_share * progress.steps if progress.steps else self.warmup_steps
        steps = min(self.warmup_steps, longest)
        return min(progress.step / steps, 1.0) if steps else 1.0

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the scores of the teacher by level."""
        levels = [level for _, level in shared_levels(student.strides, teacher.strides)]
        scores = [best_scores(teacher.class_maps[level])[0] for level in levels]
        strides = [teacher.strides[level] for level in levels]
        return Focus(by_stride(strides, scores), quantity="best score of a cell")


def best_scores(class_maps: Tensor) -> Tensor:
    """Return (B, H, W): the highest probability of each cell of logits (B, A*K, H, W)."""
    return class_maps.detach().amax(1).sigmoid()


def weighted_mean(values: Tensor, scores: Tensor) -> Tensor:
    """Return sum(S v) / sum(S) over all processes, of values and scores (B, H, W)."""
    # ``shared_count`` clamps at 1, but published code divides by smaller sums, too.
    total = LEAST_SUM * shared_count(scores.sum() / LEAST_SUM)
    return (values * scores).sum() / total
