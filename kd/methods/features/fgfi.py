"""FGFI: imitation of cells whose anchors lie near objects (Wang et al., CVPR 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import (
    Adaptation,
    adaptations,
    adapted,
    squared_distance,
    zero_without_positives,
)
from kd.methods.ops.masks import level_of, map_sizes
from kd.methods.ops.pyramid import ObjectSides, sides_of
from kd.methods.ops.reduction import mean_over

if TYPE_CHECKING:
    import torch
    import torchvision.ops as ops
    from torch import Tensor, nn

    from kd.observers import Batch, Channels, Progress
else:
    torch = LazyModule("torch")
    ops = LazyModule("torchvision.ops")


class FineGrainedImitation(Method):
    """Neck maps at cells whose anchors lie near objects.

    Loss: lambda times the squared difference of neck maps, summed over the cells of the mask and
    over channels, divided by twice the number of cells, and averaged over levels (L_im of the
    paper). A cell is in the mask if the IoU of one of its anchors with an object exceeds ``psi``
    times that of the object's best anchor.

    Code: official (twangnh/Distilling-Object-Detectors c6583f3a), for a detector with one map. The
    defaults are its values. Its two settings for ShuffleDet are weights of 1 and 0.5 without
    warm-up. ``fgfi_defeat`` and ``fgfi_ld`` are ports to pyramids.

    Here: boxes have real-valued sides in the IoU; the official code adds a pixel to each side.
    Anchors that cross the image's border count, as in that code.

    Unknown: the form that the RM/PFI paper compares with. The default is that of the official code.
    """

    title = "FGFI"
    cite = "wang2019distilling"
    weights: ClassVar = {
        "loss_fgfi": "weight",
    }

    weight: NonNegativeFloat = 0.01
    """lambda. With 256 channels, 0.01 with the divisor ``cells`` equals 2.56 with ``elements``."""
    psi: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the best anchor's IoU that another anchor's IoU must exceed. The inequality is
    strict, so 1 selects no anchor."""
    match: Literal["all", "assigned"] = "all"
    """Levels among which an object's best anchor is sought: all (LD), or the one level that the
    object's size assigns it to, on which alone it then has cells (DeFeat). The papers' single map
    leaves no such choice."""
    levels: Literal["all", "positive"] = "all"
    """Levels that have a term: all, or those with a positive prior in the batch (LD)."""
    divisor: Literal["cells", "elements"] = "cells"
    """Divisor: 2 N_p as in the paper, or 2 N_p times the number of channels as in ports to
    pyramids."""
    adaptation: Adaptation = "3x3_relu"
    level_sides: ObjectSides = "scaled"
    warmup_steps: NonNegativeInt = 400
    """Steps from the start of training during which the term is 0 (official code)."""
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of the training that the warm-up takes. 400 steps are less than this share in
    every schedule of the papers, but most of a training at the small scales."""

    @property
    def assigns_levels(self) -> bool:
        return self.match == "assigned"

    @property
    def needs(self) -> Needs:
        assigned = {"priors"} if self.levels == "positive" else set()
        return Needs(both=frozenset({"neck"}), student=frozenset({"anchors"} | assigned))

    def reads(self, progress: Progress) -> frozenset[str]:
        """Return no keys during the warm-up, and those of ``needs`` after it."""
        return frozenset() if self._warming_up(progress) else self.needs.both

    def _warming_up(self, progress: Progress) -> bool:
        """Return true while the term is 0; the share applies if the training's length is known."""
        longest = self.warmup_share * progress.steps if progress.steps else self.warmup_steps
        return progress.step < min(self.warmup_steps, longest)

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a convolution per level, by ``adaptation``."""
        return adaptations(student.neck, teacher.neck, self.adaptation)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_fgfi``, one term per level: lambda / (2 N_p) sum_I sum_c (r(s) - t)^2."""
        if self._warming_up(batch.progress):
            # Without images: 0 for any values of the maps, and a gradient for each adapter.
            zeros = [adapted(adapters, i, maps[:0]).sum() for i, maps in enumerate(student.neck)]
            return {"loss_fgfi": zeros}
        terms = []
        for level, mask in enumerate(self._masks(student, batch)):
            teacher_map = teacher.neck[level]
            adapted_map = adapted(adapters, level, student.neck[level])
            divisor = 2 * (teacher_map.shape[1] if self.divisor == "elements" else 1)
            scale = self.weight / len(student.neck) / divisor
            terms.append(scale * mean_over(squared_distance(adapted_map, teacher_map), mask))
        if self.levels == "positive":
            terms = zero_without_positives(terms, student)
        return {"loss_fgfi": terms}

    def _masks(self, student: Any, batch: Batch) -> list[Tensor]:
        """Return I, the imitated cells, by level (B, H, W)."""
        sizes = map_sizes(student.neck)
        by_image = [
            self._image_masks(student.level_priors, sizes, student.strides, boxes)
            for boxes in batch.gt_boxes
        ]
        return [torch.stack(images).float() for images in zip(*by_image, strict=True)]

    def _image_masks(
        self, anchors: list[Tensor], sizes: list[tuple[int, int]], strides: list[int], boxes: Tensor
    ) -> list[Tensor]:
        """Return an image's mask by level, (H, W) of booleans."""
        if self.match == "all":
            near = near_anchors(torch.cat(anchors), boxes, self.psi).any(1)
            near_by_level = near.split([len(priors) for priors in anchors])
        else:
            box_level = level_of(boxes, len(strides), sides_of(self.level_sides))
            finest_first = sorted(strides)
            near_by_level = tuple(
                (
                    near_anchors(priors, boxes, self.psi)
                    & (box_level == finest_first.index(stride))
                ).any(1)
                for priors, stride in zip(anchors, strides, strict=True)
            )
        # From priors, ordered by row, column and anchor, to cells.
        pairs = zip(near_by_level, sizes, strict=True)
        return [near.reshape(*size, -1).any(-1) for near, size in pairs]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the imitation mask by level."""
        masks = (mask[0] for mask in self._masks(student, batch))
        return Focus(by_stride(student.strides, masks), quantity="imitation mask")


def near_anchors(anchors: Tensor, boxes: Tensor, psi: float) -> Tensor:
    """Return (N, G): true where m^k > psi max(m^k), for anchors (N, 4) and boxes k (G, 4).

    m^k is the IoU of the anchors with box k. The inequality is strict, so a box that no anchor
    overlaps has no near anchor.
    """
    overlap = ops.box_iou(anchors, boxes)
    return overlap > psi * overlap.amax(0)
