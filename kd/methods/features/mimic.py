"""Mimic: pooled features of regions instead of whole maps (Li, Jin and Yan, CVPR 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.reduction import shared_count, sums_of_chunks

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    F = LazyModule("torch.nn.functional")
    nn = LazyModule("torch.nn")

REGIONS_AT_ONCE = 512
"""Number of regions whose pooled features are in memory together."""


class Mimic(Method):
    """Features pooled from shared proposals, instead of whole maps.

    Loss: half the squared difference between the teacher's and the student's pooled features,
    averaged over proposals and, with ``size_normalised``, over the elements of a feature (L_m of
    the paper).

    Code: United-Perception (52aaeb9e, ``SampleFeature``). There is no official code. The numbers of
    United-Perception (Faster R-CNN, ResNet-152 to ResNet-50) are the only published ones on a
    pyramid; its form is ``united_perception``.

    Here: training has one stage, as in United-Perception; the paper's has two. Features are pooled
    as the second stage pools them. A deconvolution for inputs of lower resolution and the L2
    distance of the second stage's outputs are not implemented.

    Unknown: lambda_1, the weight (``weight``); here it is 1. The number of proposals; here all are
    compared.
    """

    title = "Mimic"
    cite = "li2017mimicking"
    weights: ClassVar = {
        "loss_mimic": "weight",
    }

    weight: NonNegativeFloat = 1.0
    """Weight of the term."""
    form: Literal["paper", "united_perception"] = "paper"
    """Proposals and regression. ``paper``: the student's proposals, and a learned 1x1 convolution
    of its features; ``united_perception``: the teacher's proposals, and the convolution only where
    numbers of channels differ."""
    size_normalised: bool = True
    """If true, a region's squared distance is divided by the number of its elements."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"rois"}))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return ``regression``, r of the paper, which all levels share."""
        student_channels, teacher_channels = student.neck[0], teacher.neck[0]
        if self.form != "paper" and student_channels == teacher_channels:
            return {}
        return {"regression": nn.Conv2d(student_channels, teacher_channels, 1)}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_mimic``, a scalar.

        RoIAlign and regression are linear, so maps are regressed and subtracted before they are
        pooled, which then happens once.
        """
        from mmdet.structures.bbox import bbox2roi

        rois = bbox2roi(self._proposals(student, teacher))
        student_maps, biases = student.region_maps, list["Tensor"]()
        if "regression" in adapters:
            regression: Any = adapters["regression"]
            student_maps = [F.conv2d(level, regression.weight) for level in student_maps]
            # A region beyond the border is pooled with zeros, so the bias comes after the pooling.
            biases = [regression.bias]
        pairs = zip(teacher.region_maps, student_maps, strict=True)
        differences = [target.detach() - level for target, level in pairs]

        def squares(chunk: Tensor, *sources: Tensor) -> list[Tensor]:
            features = student.pool(sources[: len(differences)], chunk)
            for shift in sources[len(differences) :]:
                features = features - shift[:, None, None]
            return [region_squares(features, self.size_normalised)]

        (total,) = sums_of_chunks(squares, rois.split(REGIONS_AT_ONCE), [*differences, *biases])
        return {"loss_mimic": self.weight * total / (2 * shared_count(len(rois)))}

    def _proposals(self, student: Any, teacher: Any) -> list[Tensor]:
        """Return the boxes of each image, (n, 4), xyxy in pixels."""
        proposals = student.proposals if self.form == "paper" else teacher.proposals
        return [boxes.detach() for boxes in proposals]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the proposals, best first."""
        return Focus(boxes={"proposals": self._proposals(student, teacher)[0]})


def region_squares(difference: Tensor, by_size: bool) -> Tensor:
    """Return sum_i ||d_i||^2 / m_i of differences d (N, C, k, k).

    m_i is C k^2, the size of a region's feature, or 1.
    """
    size = difference[0].numel() if by_size and len(difference) else 1
    return difference.square().sum() / size
