"""PKD: correlation of channels, without their magnitude (Cao et al., NeurIPS 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, PositiveInt

from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import adaptations_of, adapted
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.levels import channel_pairs, compared_levels, resized
from kd.methods.ops.standardization import batch_normalized, correlation_distance

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from kd.observers import Batch, Channels


class PearsonCorrelation(Method):
    """Neck maps, each channel standardized over images and cells.

    Loss: half the mean squared difference of neck maps whose channels have mean 0 and standard
    deviation 1 on both sides, summed over levels. It equals 1 - r, averaged over channels, where r
    is the Pearson correlation of the student's channel with the teacher's. Scale and offset of a
    channel do not change it.

    Code: official, in mmrazor (open-mmlab/mmrazor 90c7af1f). It compares the first four levels.
    A level's weight is 10 for RetinaNet, RepPoints, and RetinaNet taught by FCOS. It is 6 for
    Faster R-CNN, for RetinaNet taught by Mask R-CNN on Swin, and in the paper for GFL.

    Here: a channel's statistics cover all images of a step in all processes; in the code, those of
    one GPU. Detectors with different pyramids are compared on levels of equal stride. The code
    compares the first level with the first and so on (``pairing``). A channel that is constant in
    the student or in the teacher has no gradient. In the code it is divided by 10^-6. A 1x1
    convolution is added on levels whose numbers of channels differ, which the code refuses.
    """

    title = "PKD"
    cite = "cao2022pkd"
    across_pyramids = True
    weights: ClassVar = {
        "loss_pkd": "weight",
    }

    weight: NonNegativeFloat = 10.0
    """Weight of each level."""
    levels: PositiveInt | None = 4
    """Number of compared levels, from the finest that both detectors have; null: all of them."""
    pairing: Literal["stride", "index"] = "stride"
    """Levels that are compared. ``stride``: those of equal stride. ``index``: the first with the
    first and so on; a student's map of another size is resized to the teacher's (mmrazor)."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck"}))

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        """Return the weight of the code's configuration of Faster R-CNN."""
        return {"weight": 6.0} if two_stage else {}

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a 1x1 convolution for each compared level whose channels differ."""
        levels = self._levels(student.strides, teacher.strides)
        return adaptations_of(channel_pairs(student, teacher, levels), "none")

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_pkd``, one term per compared level."""
        maps = self._maps(student, teacher, adapters)
        return {"loss_pkd": [self.weight * correlation_distance(*pair) for pair in maps]}

    def _levels(self, student: Sequence[int], teacher: Sequence[int]) -> list[tuple[int, int]]:
        """Return the compared (student level, teacher level), finest first, from strides."""
        if self.pairing == "stride":
            return compared_levels(student, teacher, self.levels)
        pairs = [(level, level) for level in range(min(len(student), len(teacher)))]
        return sorted(pairs, key=lambda pair: student[pair[0]])[: self.levels]

    def _maps(self, student: Any, teacher: Any, adapters: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the adapted map and the teacher's map of each compared level."""
        for level, teacher_level in self._levels(student.strides, teacher.strides):
            teacher_map = full_precision(teacher.neck[teacher_level])
            yield resized(adapted(adapters, level, student.neck[level]), teacher_map), teacher_map

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return by level the teacher's squared standardized features, averaged over channels."""
        pairs = self._levels(student.strides, teacher.strides)
        strides = [student.strides[level] for level, _ in pairs]
        maps = [
            batch_normalized(full_precision(teacher.neck[level]))[0].square().mean(0)
            for _, level in pairs
        ]
        return Focus(by_stride(strides, maps), quantity="square of standardized features")
