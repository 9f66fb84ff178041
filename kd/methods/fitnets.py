"""Hints on neck maps, of all cells or of a region (FitNets on a detector's pyramid)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import NonNegativeFloat, model_validator

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
from kd.methods.ops.full_precision import full_precision
from kd.methods.ops.masks import center_masks, map_sizes, object_masks
from kd.methods.ops.pyramid import LevelSides, sides_of
from kd.methods.ops.reduction import shared_count

if TYPE_CHECKING:
    import torch.nn.functional as F
    from torch import Tensor, nn

    from kd.observers import Batch, Channels
else:
    F = LazyModule("torch.nn.functional")


class FitNets(Method):
    """Equation 4 of the RM/PFI paper, the mean over levels, and the regions of its Table 5.

    Neither the weight nor the adaptation of Table 5 is stated; whether its norm sums or averages
    channels cannot be told, and the mean agrees with the paper's equation 8. What other codes do is
    a matter of the weight on five levels: DeFeat's whole map is 0.5 with a 3x3 convolution, the LD
    repository's sum over levels 10 without one. Nor is it stated what the sum over a region's cells
    is divided by.
    """

    title = "FitNets"
    weights: ClassVar = {
        "loss_fitnets": "weight",
    }

    weight: NonNegativeFloat = 1.0
    region: Literal["whole", "positive", "negative", "object", "center"] = "whole"
    """All cells, those of positive priors, all others, those of ground-truth boxes by level, or
    those with a prior whose center lies inside a ground-truth box, on every level (LD)."""
    levels: Literal["all", "positive"] = "all"
    """Levels that have a term: all, or those with a positive prior in the batch (LD)."""
    divisor: Literal["region", "map"] = "region"
    """Whose cells the mean of a region is over."""
    form: Literal["mse", "normalised"] = "mse"
    """``normalised``: United-Perception's, each image's map divided by its L2 norm."""
    adaptation: Adaptation = "none"
    """Of the student's maps."""
    level_sides: LevelSides = "scaled"
    """Region ``object``: sides of a square object, in pixels, at which the second level begins,
    the third, and so on. ``published``: 112 and its doubles, DeFeat's 56 for images of 800 px.
    ``scaled``: these by the image size, in whole octaves, which is ``published`` at the papers'
    scale; SSD's are those that its anchors state (``kd.methods.ops.pyramid``)."""

    @model_validator(mode="after")
    def _whole_if_normalised(self) -> FitNets:
        if self.form == "normalised" and self.region != "whole":
            raise ValueError("the form 'normalised' is one of whole maps, not of a region")
        return self

    @property
    def assigns_levels(self) -> bool:
        return self.region == "object"

    @property
    def needs(self) -> Needs:
        assigned = self.region in ("positive", "negative") or self.levels == "positive"
        return Needs(both=frozenset({"neck"}), student=frozenset({"priors"} if assigned else ()))

    def adapters(self, student: Channels, teacher: Channels) -> dict[str, nn.Module]:
        """Return a convolution per level, as ``adaptation`` says."""
        return adaptations(student.neck, teacher.neck, self.adaptation)

    def losses(self, student: Any, teacher: Any, batch: Batch, adapters: nn.ModuleDict) -> Losses:
        """Return ``loss_fitnets``, one term per level."""
        scale = self.weight / len(student.neck)
        regions = self._regions(student, batch)
        terms = []
        for level, region in enumerate(regions):
            found = adapted(adapters, level, student.neck[level])
            wanted = full_precision(teacher.neck[level])
            if self.form == "normalised":
                terms.append(scale * normalised_distance(found, wanted))
            else:
                distance = squared_distance(found, wanted) / wanted.shape[1]
                terms.append(scale * self._mean(distance, region))
        if self.levels == "positive":
            taught = levels_with_positives(student)
            terms = [term * has for term, has in zip(terms, taught, strict=True)]
        return {"loss_fitnets": terms}

    def _mean(self, distance: Tensor, region: Tensor | None) -> Tensor:
        if self.divisor == "map" and region is not None:
            return mean_over(distance * region, None)
        return mean_over(distance, region)

    def _regions(self, student: Any, batch: Batch) -> list[Tensor] | list[None]:
        """Return per level (B, H, W), 1 for cells of the region, or None for all cells."""
        if self.region == "whole":
            return [None] * len(student.neck)
        sizes = map_sizes(student.neck)
        if self.region == "object":
            return object_masks(batch, student.strides, sizes, sides=sides_of(self.level_sides))
        if self.region == "center":
            return center_masks(batch, student.level_priors, sizes)
        counts = [len(priors) for priors in student.level_priors]
        positive = positive_cells(student.assignment, counts, sizes)
        return positive if self.region == "positive" else [1 - cells for cells in positive]

    def focus(self, student: Any, teacher: Any, batch: Batch) -> Focus:
        """Return the cells of the region by level, of all cells the norm of the teacher's map."""
        shown = self._regions(student, batch)
        maps = [
            full_precision(teacher.neck[level][0]).norm(dim=0) if region is None else region[0]
            for level, region in enumerate(shown)
        ]
        names = (f"stride {stride}" for stride in student.strides)
        return Focus(dict(zip(names, maps, strict=True)))


def positive_cells(
    assignment: Tensor, counts: list[int], sizes: list[tuple[int, int]]
) -> list[Tensor]:
    """Return, per level (B, H, W), 1 for the cells that have a positive prior, else 0.

    ``assignment``: (B, N), -1 where negative, by level, row, column and anchor; ``counts``: priors
    of each level; ``sizes``: its (H, W).
    """
    return [
        (own >= 0).reshape(len(own), *size, -1).any(-1).float()
        for own, size in zip(assignment.split(counts, 1), sizes, strict=True)
    ]


def normalised_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over images of ||s/|s| - t/|t|||^2, s and t whole maps (C, H, W) as vectors.

    United-Perception 52aaeb9e, mimicker ``base``.
    """
    found = F.normalize(student.flatten(1), dim=1)
    wanted = F.normalize(teacher.detach().flatten(1), dim=1)
    return (found - wanted).square().sum() / shared_count(len(found))
