"""Settings that depend on the image size: object sizes of levels, factors of sums over cells.

The planner reads this module, so it does not import torch.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, PositiveFloat

SECOND_LEVEL_SIDE = 112.0
"""Side of a square object, in pixels, at which the second level begins in DeFeat's code: twice its
56 (ggjy/DeFeat.pytorch c46a793d, ``get_gt_mask``), with strides 4 to 64 and with 8 to 128. Each
further level begins at twice the side. United-Perception (52aaeb9e) has the same rule."""
SECOND_LEVEL_STRIDES = 28.0
"""Side of a pooled region at which the second level begins, in strides of the finest level. It is
FPN's rule: a region of 224 px belongs to stride 16, as in detectron2 and in GID's author's code."""
PUBLISHED_SHORT_SIDE = 800
"""Shorter side, in pixels, of the images that both constants were published for (COCO). They were
also published for Pascal VOC, at 600."""

LevelSides = Literal["scaled", "published"] | tuple[PositiveFloat, ...]
"""Setting of a method that assigns boxes to levels: a rule, or the sides themselves."""

_OBJECT_SIDES = """\
Sides of a square object, in pixels, at which the second level begins, the third, and so on. They
are read only if objects are assigned to levels. ``published``: 112, 224, 448 and so on, which is
DeFeat's rule for images of 800 px. ``scaled``: the published sides, scaled to the image size in
whole octaves; at scale ``paper`` they equal ``published``. SSD has the sides that its anchors state
(``kd.methods.ops.pyramid``)."""
ObjectSides = Annotated[LevelSides, Field(description=_OBJECT_SIDES)]
"""The setting ``level_sides`` of methods that draw objects into masks."""

_CELL_FACTOR = """\
Factor of sums over all cells of a map, which grow with the area of the images. The weights were
published for images of 800 px. ``published``: 1, at every size; ``scaled``: 1 for images of
published sizes and 4 for each octave below, so that a sum over cells has its published size. At
scale ``paper`` both are equal."""
CellFactor = Annotated[
    Literal["scaled", "published"] | PositiveFloat, Field(description=_CELL_FACTOR)
]
"""The setting ``cell_factor`` of methods that sum over the cells of whole maps."""


class Pyramid(NamedTuple):
    """Levels of a detector and size of its training images."""

    strides: tuple[int, ...]
    """Pixels per cell of each level, finest first."""
    image_size: tuple[int, int]
    """Width and height, in pixels, that images are resized to or fitted into."""
    anchor_sides: tuple[float, ...] = ()
    """Sides at which levels begin by the detector's anchors; only SSD's anchors state them."""

    @classmethod
    def of(cls, model: dict[str, Any], image_size: tuple[int, int]) -> Pyramid | None:
        """Return the pyramid of mmdet's model dict, or None if its head states no strides."""
        head = model.get("rpn_head") or model.get("bbox_head") or {}
        priors = head.get("anchor_generator") or head.get("prior_generator") or {}
        strides = priors.get("strides") or head.get("strides") or head.get("point_strides")
        if not strides:
            return None
        numbers = (s[0] if isinstance(s, list | tuple) else s for s in strides)
        anchor_sides = tuple(map(float, priors.get("min_sizes", ())[1:]))
        return cls(tuple(sorted(numbers)), image_size, anchor_sides)

    def sides(self, rule: LevelSides, per_stride: bool = False) -> tuple[float, ...]:
        """Return the sides, in pixels, at which the second level begins, the third, and so on.

        ``published``: ``SECOND_LEVEL_SIDE`` (with ``per_stride``: ``SECOND_LEVEL_STRIDES`` times
        the finest stride) and its doubles. ``scaled``: the sides of the detector's anchors if they
        state any, else the published sides, lowered by the ``octaves`` of the images, and by more
        if the coarsest level would begin beyond the shorter side of an image. Sides in place of a
        rule are returned.
        """
        if not isinstance(rule, str):
            return rule
        if rule == "scaled" and self.anchor_sides:
            return self.anchor_sides
        second = SECOND_LEVEL_STRIDES * self.strides[0] if per_stride else SECOND_LEVEL_SIDE
        sides = published_sides(len(self.strides), second)
        shift = octaves(self.image_size) if rule == "scaled" else 0
        if not shift or not sides:  # images of the published size, or a single level
            return sides
        # The coarsest level begins within the image.
        shift = min(shift, math.ceil(math.log2(min(self.image_size) / sides[-1])) - 1)
        return published_sides(len(self.strides), second * 2.0**shift)


def published_sides(levels: int, second: float = SECOND_LEVEL_SIDE) -> tuple[float, ...]:
    """Return the sides at which levels after the first begin: ``second`` and its doubles."""
    return tuple(second * 2.0**level for level in range(levels - 1))


def sides_of(setting: LevelSides) -> tuple[float, ...] | None:
    """Return the sides of a resolved setting, or None, the published ones, for a rule's name.

    Composed configurations hold the sides; only a method built by hand still holds a rule's name.
    """
    return None if isinstance(setting, str) else setting


def fitted_cell_factor(setting: CellFactor, image_size: tuple[int, int]) -> float:
    """Return the number that a setting ``cell_factor`` selects for images of a size."""
    return 4.0 ** -octaves(image_size) if setting == "scaled" else cell_factor_of(setting)


def cell_factor_of(setting: CellFactor) -> float:
    """Return the number of a resolved setting, or 1, the published one, for a rule's name."""
    return 1.0 if isinstance(setting, str) else setting


def octaves(image_size: tuple[int, int]) -> int:
    """Return the size of images relative to the published ones in octaves, 0 or below.

    It is the logarithm to base 2 of the shorter side over ``PUBLISHED_SHORT_SIDE``, rounded. Levels
    are octaves, so a shift by whole octaves puts an object that covers a given share of its image
    on the level that the published constant assigns to that share. Both sizes that the constants
    were published with, 800 px for COCO and 600 px for Pascal VOC, give 0. Larger images give 0
    too, because multi-scale training at published sizes has them.
    """
    return min(0, round(math.log2(min(image_size) / PUBLISHED_SHORT_SIDE)))
