"""Sides of objects at which the levels of a detector's pyramid begin; nothing imports torch."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from pydantic import PositiveFloat

SECOND = 112.0
"""Side of a square object, in pixels, at which the second level begins in DeFeat's code, twice its
56 (ggjy/DeFeat.pytorch c46a793d, ``get_gt_mask``), with strides 4 to 64 as with 8 to 128. Each
further level begins at twice the side. United-Perception (52aaeb9e) has the same rule."""
SECOND_PER_STRIDE = 28.0
"""The same where regions are pooled, in strides of the finest level: FPN's rule, by which a region
of 224 px belongs to stride 16, as in detectron2 and in the code of GID's author."""
SHORT_SIDE = 800
"""Shorter side, in pixels, of the images that both constants were published for (COCO). They were
also published for Pascal VOC, at 600."""

LevelSides = Literal["scaled", "published"] | tuple[PositiveFloat, ...]
"""The setting of a method that assigns objects to levels: a rule, or the sides themselves."""


class Pyramid(NamedTuple):
    """A detector's levels and the images that it is trained on."""

    strides: tuple[int, ...]
    """Pixels per cell of each level, finest first."""
    image_size: tuple[int, int]
    """Width and height, in pixels, that images are resized to or fitted into."""
    own_sides: tuple[float, ...] = ()
    """Sides at which levels begin, where the detector's anchors state them by level, as SSD's."""

    @classmethod
    def of(cls, model: dict[str, Any], image_size: tuple[int, int]) -> Pyramid | None:
        """Return the pyramid of mmdet's model dict; None where its head states no strides."""
        head = model.get("rpn_head") or model.get("bbox_head") or {}
        priors = head.get("anchor_generator") or head.get("prior_generator") or {}
        strides = priors.get("strides") or head.get("strides")
        if not strides:
            return None
        plain = (each[0] if isinstance(each, list | tuple) else each for each in strides)
        own = tuple(map(float, priors.get("min_sizes", ())[1:]))
        return cls(tuple(sorted(plain)), image_size, own)

    def sides(self, rule: LevelSides, per_stride: bool = False) -> tuple[float, ...]:
        """Return the sides, in pixels, at which the second level begins, the third, and so on.

        ``published``: ``SECOND``, or ``SECOND_PER_STRIDE`` times the finest stride with
        ``per_stride``, and its doubles. ``scaled``: these lowered by the ``octaves`` of the images,
        and by more if the coarsest level would begin beyond the shorter side of an image; or the
        sides that the detector's anchors state.
        """
        if not isinstance(rule, str):
            return rule
        if rule == "scaled" and self.own_sides:
            return self.own_sides
        second = SECOND_PER_STRIDE * self.strides[0] if per_stride else SECOND
        sides = published_sides(len(self.strides), second)
        smaller = octaves(self.image_size) if rule == "scaled" else 0
        if not smaller or not sides:
            return sides
        smaller = min(smaller, math.ceil(math.log2(min(self.image_size) / sides[-1])) - 1)
        return published_sides(len(self.strides), second * 2.0**smaller)


def published_sides(levels: int, second: float = SECOND) -> tuple[float, ...]:
    """Return the sides at which levels after the first begin: ``second`` and its doubles."""
    return tuple(second * 2.0**level for level in range(levels - 1))


def sides_of(setting: LevelSides) -> tuple[float, ...] | None:
    """Return the sides of a resolved setting; None, for the published ones, of a rule's name.

    A composed configuration has the sides. A method that is built by hand has a rule's name.
    """
    return None if isinstance(setting, str) else setting


def octaves(image_size: tuple[int, int]) -> int:
    """Return by how many octaves images are smaller than the published ones, 0 or below.

    It is the logarithm to base 2 of the shorter side over ``SHORT_SIDE``, rounded. Levels are
    octaves, so the correction is in whole octaves, and an object of some share of its image is on
    the level that the published constant has for that share. Both sizes that the constants were
    published with, 800 px for COCO and 600 px for Pascal VOC, give 0. Larger images change nothing:
    multi-scale training at published sizes has them.
    """
    return min(0, round(math.log2(min(image_size) / SHORT_SIDE)))
