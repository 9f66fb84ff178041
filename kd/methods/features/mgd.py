"""MGD: generation of the teacher's maps from masked student maps (Yang et al., ECCV 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, NonNegativeFloat

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import aligned, alignment, squared_distance
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.levels import (
    TWO_STAGE_LEVELS,
    ComparedLevels,
    channel_pairs,
    compared_levels,
    resized,
)
from kd.methods.ops.masks import map_sizes
from kd.methods.ops.pyramid import CellFactor, Pyramid, cell_factor_of, fitted_cell_factor
from kd.methods.ops.random_masks import random_masks
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    nn = LazyModule("torch.nn")


class MaskedGeneration(Method):
    """Neck maps, generated from a student's map with random cells set to zero.

    Loss: a generator, two 3x3 convolutions with a ReLU between them, maps the masked student map to
    the teacher's. The term is the sum of squared differences over cells and channels, averaged over
    images and summed over levels (equations 5 and 6).

    Code: official (yzd-v/MGD 2c9da0b). The mask has one value per image and cell, for all channels.

    Here: a cell's mask is a function of seed, step, level and image, so that results do not depend
    on the number of processes and a resumed run draws the same masks. A factor can scale sums over
    cells to the image size (``cell_factor``). It is off by default: at the start of a training of
    RetinaNet on images of 128 px, the gradient at the neck was 5 times that of detection with the
    factor, and 0.1 times without it.

    Unknown: the settings of FCOS and GFL, which have no published configuration; they have those of
    RetinaNet. The paper masks cells where the random number is below the share, the code where it
    is above one minus the share; both mask the same share.
    """

    title = "MGD"
    cite = "yang2022masked"
    across_pyramids = True
    weights: ClassVar = {"loss_mgd": "weight"}

    weight: NonNegativeFloat = 2e-5
    """alpha, the weight of the sum over cells and channels: 2e-5 for one-stage detectors, 5e-7 for
    Faster R-CNN."""
    masked_share: Annotated[float, Field(ge=0, lt=1)] = 0.65
    """lambda, the share of cells that are masked: 0.65 for one-stage detectors, 0.45 for Faster
    R-CNN."""
    levels: ComparedLevels = None
    cell_factor: CellFactor = "published"

    @classmethod
    def defaults(cls, two_stage: bool) -> dict[str, Any]:
        if not two_stage:
            return {}
        return {"weight": 5e-7, "masked_share": 0.45, "levels": TWO_STAGE_LEVELS}

    @property
    def needs(self) -> Needs:
        return Needs(both=frozenset({"neck"}))

    def fitted(self, pyramid: Pyramid) -> Self:
        """Return the settings with the factor of sums over cells as a number."""
        factor = fitted_cell_factor(self.cell_factor, pyramid.image_size)
        return super().fitted(pyramid).model_copy(update={"cell_factor": factor})

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return ``generator0``, ... by student level, and ``align0``, ... where widths differ."""
        layers: dict[str, nn.Module] = {}
        levels = compared_levels(student.strides, teacher.strides, self.levels)
        for level, (student_channels, channels) in channel_pairs(student, teacher, levels).items():
            layers |= alignment(level, student_channels, channels)
            layers[f"generator{level}"] = nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
            )
        return layers

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_mgd``, one term per level."""
        return self.generated(student, teacher, self._masks(student, batch), adapters)

    def generated(
        self, student: Any, teacher: Any, masks: Sequence[Tensor], adapters: nn.ModuleDict
    ) -> Losses:
        """Return ``loss_mgd`` for masks by student level (B, H, W), 0 where a cell is masked."""
        scale = self.weight * cell_factor_of(self.cell_factor)
        terms = []
        for level, other in compared_levels(student.strides, teacher.strides, self.levels):
            student_map = aligned(adapters, level, student.neck[level])
            masked = resized(student_map * masks[level][:, None], teacher.neck[other])
            distance = squared_distance(adapters[f"generator{level}"](masked), teacher.neck[other])
            terms.append(scale * distance.sum() / shared_count(len(distance)))
        return {"loss_mgd": terms}

    def _masks(self, student: Any, batch: Batch) -> list[Tensor]:
        return random_masks(batch, map_sizes(student.neck), self.masked_share)

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the student's cells that are not masked, by level, with their norm."""
        masks = self._masks(student, batch)
        levels = compared_levels(student.strides, teacher.strides, self.levels)
        maps = [
            full_precision(student.neck[level][0]).norm(dim=0) * masks[level][0]
            for level, _ in levels
        ]
        strides = (student.strides[level] for level, _ in levels)
        return Focus(by_stride(strides, maps), quantity="norm of unmasked student features")
