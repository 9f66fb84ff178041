"""Mimic: the features of regions rather than of whole maps (Li, Jin and Yan, CVPR 2017)."""

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
    """L_m of the paper on a pyramid: both second stages pool the same proposals.

    There is no official code. The weight is lambda_1, not confirmed by the paper. Of its two stages
    of training there is one here, as in United-Perception (52aaeb9e, ``SampleFeature``), whose
    numbers (Faster R-CNN, ResNet-152 to 50) are the only known ones on a pyramid, with the form
    ``united_perception``. Features are pooled as the second stage pools them. A deconvolution for
    inputs of lower resolution and the second stage's L2 of outputs are not here.
    """

    title = "Mimic"
    weights: ClassVar = {
        "loss_mimic": "weight",
    }

    weight: NonNegativeFloat = 1.0
    form: Literal["paper", "united_perception"] = "paper"
    """``paper``: the student's proposals, a learned 1x1 regression of its features;
    ``united_perception``: the teacher's proposals, a regression only where channels differ."""
    size_normalised: bool = True
    """Whether a region's squared distance is divided by the number of its elements."""

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"rois"}))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return ``regression``, which all levels share: r of the paper."""
        narrow, wide = student.neck[0], teacher.neck[0]
        needed = self.form == "paper" or narrow != wide
        return {"regression": nn.Conv2d(narrow, wide, 1)} if needed else {}

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_mimic``, a scalar."""
        from mmdet.structures.bbox import bbox2roi

        rois = bbox2roi(self._proposals(student, teacher))
        found, wanted = student.roi_features(rois), teacher.roi_features(rois)
        if "regression" in adapters:
            found = adapters["regression"](found)
        return {"loss_mimic": self.weight * region_distance(found, wanted, self.size_normalised)}

    def _proposals(self, student: Any, teacher: Any) -> list[Tensor]:
        """Return the boxes of each image, (n, 4)."""
        proposed = student.proposals if self.form == "paper" else teacher.proposals
        return [boxes.detach() for boxes in proposed]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the proposals, best first."""
        return Focus(boxes={"proposals": self._proposals(student, teacher)[0]})


def region_distance(student: Tensor, teacher: Tensor, size_normalised: bool) -> Tensor:
    """Return 1/(2N) sum_i ||u_i - r(v_i)||^2 / m_i of features (N, C, k, k); 0 without regions.

    m_i is C k^2, the size of a region's feature, or 1.
    """
    size = teacher[0].numel() if size_normalised and len(teacher) else 1
    squares = (student - teacher.detach()).square().sum()
    return squares / (2 * size * shared_count(len(teacher)))
