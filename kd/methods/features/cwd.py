"""CWD: the cells where a channel is active (Shu et al., ICCV 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import adaptations_of, adapted
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.levels import channel_pairs, level_pairs, resized
from kd.methods.ops.reduction import shared_count
from kd.methods.ops.standardization import batch_normalized

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    torch = LazyModule("torch")


class ChannelWise(Method):
    """Neck or class maps, each channel as a distribution over cells.

    Loss: T^2 times the KL divergence of the student's distribution over the cells of a channel from
    the teacher's, averaged over channels and images and summed over levels. The distribution is a
    softmax over the cells (``temperature``).

    Code: mmrazor (open-mmlab/mmrazor 90c7af1f). Its configurations compare all five levels of the
    neck with T = 1 and a weight of 10 each. Its first release (e20c314f) compares the class maps of
    GFL with a weight of 5.

    Here: detectors with different pyramids are compared on levels of equal stride. A cell with a
    value of minus infinity has the probability 0 and no NaN. A 1x1 convolution is added on levels
    of the neck whose numbers of channels differ, which the code refuses.

    Unknown: the paper is on segmentation, and its table of detectors was not available. The recipe
    of RTMDet normalizes the maps first (``normalize``); only its description was read.
    """

    title = "CWD"
    cite = "shu2021channel"
    across_pyramids = True
    weights: ClassVar = {
        "loss_cwd": "weight",
    }

    weight: NonNegativeFloat = 10.0
    """Weight of each level."""
    temperature: PositiveFloat = 1.0
    """T, which divides the maps of both models. The divergence is multiplied by T^2."""
    maps: Literal["neck", "class"] = "neck"
    """Compared maps: the neck's, or the class logits on its cells, a channel for each class of each
    anchor."""
    normalize: bool = False
    """Subtract the mean of each channel and divide by its standard deviation before the softmax.
    Both cover all images and cells of the level. It is a batch normalization without learned
    weights, on both sides (RTMDet's recipe)."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck" if self.maps == "neck" else "class_maps"}))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 1x1 convolution for each compared neck level whose channels differ."""
        if self.maps == "class":
            return {}
        return adaptations_of(channel_pairs(student, teacher), "none")

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_cwd``, one term per compared level."""
        terms = []
        for student_map, teacher_map in self._maps(student, teacher, adapters):
            divergences = channel_divergences(teacher_map, student_map, self.temperature)
            mean = divergences.sum() / shared_count(divergences.numel())
            terms.append(self.weight * mean)
        return {"loss_cwd": terms}

    def _maps(self, student: Any, teacher: Any, adapters: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the student's map and the teacher's of each compared level."""
        for level, teacher_level in level_pairs(student.strides, teacher.strides):
            if self.maps == "class":
                maps = student.class_maps[level], teacher.class_maps[teacher_level]
            else:
                teacher_map = full_precision(teacher.neck[teacher_level])
                student_map = resized(adapted(adapters, level, student.neck[level]), teacher_map)
                maps = student_map, teacher_map
            yield (batch_normalized(maps[0]), batch_normalized(maps[1])) if self.normalize else maps

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the teacher's probability of each cell, averaged over channels, by level."""
        pairs = level_pairs(student.strides, teacher.strides)
        strides = [student.strides[level] for level, _ in pairs]
        levels = teacher.neck if self.maps == "neck" else teacher.class_maps
        maps = []
        for _, level in pairs:
            teacher_map = full_precision(levels[level])
            if self.normalize:
                teacher_map = batch_normalized(teacher_map)
            logits = teacher_map[0].flatten(1) / self.temperature
            maps.append(logits.softmax(1).mean(0).unflatten(0, teacher_map.shape[-2:]))
        return Focus(by_stride(strides, maps), quantity="mean probability of a cell")


def channel_divergences(teacher_map: Tensor, student_map: Tensor, temperature: float) -> Tensor:
    """Return (B, C) T^2 KL(p^T || p^S), p a softmax over the cells of a channel.

    Maps are (B, C, H, W). Logarithms of a probability of 0 are the least number, so that its
    product with the teacher's probability of 0 is 0.
    """
    teacher, student = (
        (level.flatten(2) / temperature).log_softmax(2)
        for level in (teacher_map.detach(), student_map)
    )
    least = torch.finfo(student.dtype).min
    difference = teacher.clamp(min=least) - student.clamp(min=least)
    return temperature**2 * (teacher.exp() * difference).sum(2)
