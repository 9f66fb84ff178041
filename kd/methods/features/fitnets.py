"""FitNets: imitation of neck maps, on all cells or on a region (Romero et al., ICLR 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, model_validator

from kd.common.modules import LazyModule
from kd.methods.base import Focus, Losses, Method, Needs, by_stride
from kd.methods.ops.adapters import (
    Adaptation,
    adaptations_of,
    adapted,
    squared_distance,
    zero_without_positives,
)
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.levels import channel_pairs, level_pairs
from kd.methods.ops.masks import center_masks, map_sizes, object_masks
from kd.methods.ops.pyramid import ObjectSides, sides_of
from kd.methods.ops.reduction import mean_over, shared_count

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    F = LazyModule("torch.nn.functional")


class FitNets(Method):
    """Neck maps, on all cells or on a region.

    Loss: the squared difference of neck maps, averaged over channels and over the cells of the
    region, then over levels (equation 4 of the RM/PFI paper and the regions of its Table 5).

    Code: variants in United-Perception, DeFeat and LD. They differ in the weight on five levels.
    DeFeat's whole map has 0.5 with a 3x3 convolution. LD's sum over levels has 10 without a
    convolution.

    Here: detectors with different pyramids are compared on levels of equal stride, over which the
    mean is taken.

    Unknown: weight (``weight``) and adaptation (``adaptation``) of the RM/PFI paper's Table 5, and
    the divisor of its sum over a region (``divisor``). The defaults are a weight of 1, no
    convolution between equal widths, and the region's cells. It is not clear whether the paper's
    norm sums or averages channels; the mean agrees with its equation 8.
    """

    title = "FitNets"
    cite = "romero2015fitnets"
    across_pyramids = True
    weights: ClassVar = {
        "loss_fitnets": "weight",
    }

    weight: NonNegativeFloat = 1.0
    """Weight of the term."""
    region: Literal["whole", "positive", "negative", "object", "center"] = "whole"
    """Imitated cells. ``whole``: all; ``positive``: those of positive priors; ``negative``: all
    others; ``object``: those of ground-truth boxes, by level; ``center``: those with a prior whose
    center lies inside a ground-truth box, on every level (LD)."""
    levels: Literal["all", "positive"] = "all"
    """Levels that have a term: all, or those with a positive prior in the batch (LD)."""
    divisor: Literal["region", "map"] = "region"
    """Cells that divide the sum over a region: the region's, or all of the map's."""
    form: Literal["mse", "normalised"] = "mse"
    """Distance of maps. ``mse``: mean squared difference; ``normalised``: United-Perception's form,
    in which each image's map is divided by its L2 norm."""
    adaptation: Adaptation = "none"
    level_sides: ObjectSides = "scaled"

    @model_validator(mode="after")
    def _refuse_normalizing_a_region(self) -> FitNets:
        if self.form == "normalised" and self.region != "whole":
            raise ValueError("form 'normalised' compares whole maps; set region to 'whole'")
        return self

    @property
    def assigns_levels(self) -> bool:
        return self.region == "object"

    @property
    def needs(self) -> Needs:
        assigned = self.region in ("positive", "negative") or self.levels == "positive"
        return Needs(both=frozenset({"neck"}), student=frozenset({"priors"} if assigned else ()))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a convolution per level, by ``adaptation``."""
        return adaptations_of(channel_pairs(student, teacher), self.adaptation)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_fitnets``, one term per compared level."""
        pairs = level_pairs(student.strides, teacher.strides)
        scale = self.weight / len(pairs)
        regions = self._regions(student, batch)
        terms = []
        for level, teacher_level in pairs:
            adapted_map = adapted(adapters, level, student.neck[level])
            teacher_map = full_precision(teacher.neck[teacher_level])
            if self.form == "normalised":
                terms.append(scale * normalized_distance(adapted_map, teacher_map))
            else:
                # Mean over channels, as in the paper's equation 8.
                distance = squared_distance(adapted_map, teacher_map) / teacher_map.shape[1]
                terms.append(scale * self._mean(distance, regions[level]))
        if self.levels == "positive":
            terms = zero_without_positives(terms, student, [level for level, _ in pairs])
        return {"loss_fitnets": terms}

    def _mean(self, distance: Tensor, region: Tensor | None) -> Tensor:
        if self.divisor == "map" and region is not None:
            # Cells outside of the region count in the divisor, with a distance of 0.
            return mean_over(distance * region)
        return mean_over(distance, region)

    def _regions(self, student: Any, batch: Batch) -> list[Tensor] | list[None]:
        """Return per level (B, H, W), 1 for cells of the region, or None for all cells."""
        if self.region == "whole":
            return [None] * len(student.neck)
        sizes = map_sizes(student.neck)
        if self.region == "object":
            return object_masks(batch, student.strides, sizes, sides_of(self.level_sides))
        if self.region == "center":
            return center_masks(batch, student.level_priors, sizes)
        counts = [len(priors) for priors in student.level_priors]
        positive = positive_cells(student.assignment, counts, sizes)
        return positive if self.region == "positive" else [1 - cells for cells in positive]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the region's cells by level; for whole maps, the norm of teacher features."""
        pairs = level_pairs(student.strides, teacher.strides)
        regions = self._regions(student, batch)
        maps = []
        for level, teacher_level in pairs:
            region = regions[level]
            features = full_precision(teacher.neck[teacher_level][0])
            maps.append(features.norm(dim=0) if region is None else region[0])
        strides = [student.strides[level] for level, _ in pairs]
        quantity = "norm of teacher features" if self.region == "whole" else "region mask"
        return Focus(by_stride(strides, maps), quantity=quantity)


def positive_cells(
    assignment: Tensor, counts: list[int], sizes: list[tuple[int, int]]
) -> list[Tensor]:
    """Return, per level (B, H, W), 1 for the cells that have a positive prior, else 0.

    ``assignment``: (B, N), negative values for priors without an object, ordered by level, row,
    column and anchor; ``counts``: number of priors of each level; ``sizes``: its height and width.
    """
    return [
        # A cell is positive if any of its anchors is.
        (level >= 0).reshape(len(level), *size, -1).any(-1).float()
        for level, size in zip(assignment.split(counts, 1), sizes, strict=True)
    ]


def normalized_distance(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Return the mean over images of ||s/|s| - t/|t|||^2, s and t whole maps (C, H, W) as vectors.

    It is the mimicker ``base`` of United-Perception 52aaeb9e.
    """
    student = F.normalize(student_maps.flatten(1), dim=1)
    teacher = F.normalize(teacher_maps.detach().flatten(1), dim=1)
    return (student - teacher).square().sum() / shared_count(len(student))
