"""Mimic: pooled features of regions instead of whole maps (Li, Jin and Yan, CVPR 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    nn = LazyModule("torch.nn")


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
        """Return ``loss_mimic``, a scalar."""
        from mmdet.structures.bbox import bbox2roi

        rois = bbox2roi(self._proposals(student, teacher))
        student_features, teacher_features = student.roi_features(rois), teacher.roi_features(rois)
        if "regression" in adapters:
            student_features = adapters["regression"](student_features)
        distance = region_distance(student_features, teacher_features, self.size_normalised)
        return {"loss_mimic": self.weight * distance}

    def _proposals(self, student: Any, teacher: Any) -> list[Tensor]:
        """Return the boxes of each image, (n, 4), xyxy in pixels."""
        proposals = student.proposals if self.form == "paper" else teacher.proposals
        return [boxes.detach() for boxes in proposals]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the proposals, best first."""
        return Focus(boxes={"proposals": self._proposals(student, teacher)[0]})


def region_distance(student: Tensor, teacher: Tensor, by_size: bool) -> Tensor:
    """Return 1/(2N) sum_i ||u_i - r(v_i)||^2 / m_i of features (N, C, k, k); 0 without regions.

    m_i is C k^2, the size of a region's feature, or 1.
    """
    size = teacher[0].numel() if by_size and len(teacher) else 1
    squares = (student - teacher.detach()).square().sum()
    return squares / (2 * size * shared_count(len(teacher)))
