"""Fine-grained feature imitation: cells whose anchors lie near objects (Wang et al., CVPR 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs
from kd.methods.ops.adapters import (
    Adaptation,
    adaptations,
    adapted,
    levels_with_positives,
    mean_over,
    squared_distance,
)
from kd.methods.ops.masks import level_of, map_sizes
from kd.methods.ops.pyramid import LevelSides, sides_of

if TYPE_CHECKING:
    import torch
    import torchvision.ops as ops
    from torch import Tensor, nn

    from kd.observers import Batch, Channels, Progress
else:
    torch = LazyModule("torch")
    ops = LazyModule("torchvision.ops")


class FineGrainedImitation(Method):
    """L_im of the paper on each level of a pyramid, the mean over levels.

    The defaults are the official code's (twangnh/Distilling-Object-Detectors c6583f3a), written for
    a detector of one map; its two settings for ShuffleDet are weights of 1 and 0.5 without warm-up.
    ``fgfi_defeat`` and ``fgfi_ld`` are ports to pyramids. Which of them the RM/PFI paper's rows
    were trained with is not known. IoU is that of real-valued boxes; the official code adds a pixel
    to each side. Anchors that cross the image's border count, as in the official code.
    """

    title = "FGFI"
    weights: ClassVar = {
        "loss_fgfi": "weight",
    }

    weight: NonNegativeFloat = 0.01
    """lambda; per channel, 0.01 is about 2.56 of 256 channels."""
    psi: Annotated[float, Field(ge=0, le=1)] = 0.5
    """How near the best anchor's IoU another's must come, strictly; 1 selects none."""
    match: Literal["all", "assigned"] = "all"
    """An object's best anchor is that of all levels (LD), or of the one level that the object's
    size assigns it to, where alone it has cells (DeFeat). One map has no such choice."""
    levels: Literal["all", "positive"] = "all"
    """Levels that have a term: all, or those with a positive prior in the batch (LD)."""
    divisor: Literal["cells", "elements"] = "cells"
    """2 N_p as in the paper, or that times the number of channels as in ports to pyramids."""
    adaptation: Adaptation = "3x3_relu"
    """Of the student's maps: the ports have no ReLU, LD's no layer."""
    level_sides: LevelSides = "scaled"
    """Match ``assigned``: sides of a square object, in pixels, at which the second level begins,
    the third, and so on. ``published``: 112 and its doubles, DeFeat's 56 for images of 800 px.
    ``scaled``: these by the image size, in whole octaves, which is ``published`` at the papers'
    scale; SSD's are those that its anchors state (``kd.methods.ops.pyramid``)."""
    warmup_steps: NonNegativeInt = 400
    """Steps from the start of training for which the term is 0 (official code)."""
    warmup_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share of the whole training that the warm-up takes at most. 400 steps are less than it in
    every schedule of the papers, and most of a training of the small scales."""

    @property
    def assigns_levels(self) -> bool:
        return self.match == "assigned"

    @property
    def needs(self) -> Needs:
        assigned = {"priors"} if self.levels == "positive" else set()
        return Needs(both=frozenset({"neck"}), student=frozenset({"anchors"} | assigned))

    def reads(self, progress: Progress) -> frozenset[str]:
        """Return nothing before the warm-up's end."""
        return frozenset() if self._warming_up(progress) else self.needs.both

    def _warming_up(self, progress: Progress) -> bool:
        """Return whether the term is still 0; of a training of unknown length by steps alone."""
        longest = self.warmup_share * progress.steps if progress.steps else self.warmup_steps
        return progress.step < min(self.warmup_steps, longest)

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a convolution per level, as ``adaptation`` says."""
        return adaptations(student.neck, teacher.neck, self.adaptation)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_fgfi``, one term per level."""
        if self._warming_up(batch.progress):
            # No images: 0 whatever the maps hold, and a gradient for each adapter.
            idle = [adapted(adapters, i, maps[:0]).sum() for i, maps in enumerate(student.neck)]
            return {"loss_fgfi": idle}
        terms = []
        for level, mask in enumerate(self._masks(student, batch)):
            wanted = teacher.neck[level]
            distance = squared_distance(adapted(adapters, level, student.neck[level]), wanted)
            divisor = 2 * (wanted.shape[1] if self.divisor == "elements" else 1)
            scale = self.weight / len(student.neck) / divisor
            terms.append(scale * mean_over(distance, mask))
        if self.levels == "positive":
            taught = levels_with_positives(student)
            terms = [term * has for term, has in zip(terms, taught, strict=True)]
        return {"loss_fgfi": terms}

    def _masks(self, student: Any, batch: Batch) -> list[Tensor]:
        """Return I by level (B, H, W)."""
        sizes = map_sizes(student.neck)
        by_image = [
            self._cells(student.level_priors, sizes, student.strides, boxes)
            for boxes in batch.gt_boxes
        ]
        return [torch.stack(images).float() for images in zip(*by_image, strict=True)]

    def _cells(
        self,
        anchors: list[Tensor],
        sizes: list[tuple[int, int]],
        strides: list[int],
        boxes: Tensor,
    ) -> list[Tensor]:
        """Return an image's cells by level, (H, W) of booleans."""
        if self.match == "all":
            near = near_anchors(torch.cat(anchors), boxes, self.psi).any(1)
            by_level = near.split([len(priors) for priors in anchors])
        else:
            own = level_of(boxes, len(strides), sides_of(self.level_sides))
            finest_first = sorted(strides)
            by_level = [
                (near_anchors(priors, boxes, self.psi) & (own == finest_first.index(stride))).any(1)
                for priors, stride in zip(anchors, strides, strict=True)
            ]
        return [each.reshape(*size, -1).any(-1) for each, size in zip(by_level, sizes, strict=True)]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the imitation mask by level."""
        names = (f"stride {stride}" for stride in student.strides)
        masks = (mask[0] for mask in self._masks(student, batch))
        return Focus(dict(zip(names, masks, strict=True)))


def near_anchors(anchors: Tensor, boxes: Tensor, psi: float) -> Tensor:
    """Return (N, G): whether m^k > psi max(m^k) for anchors (N, 4) and objects k of boxes (G, 4).

    m^k: the anchors' IoU with the object. The inequality is strict, so an object that no anchor
    meets has none.
    """
    overlap = ops.box_iou(anchors, boxes)
    return overlap > psi * overlap.amax(0)
