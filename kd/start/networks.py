"""Changes of a detector that fit its anchors and levels to objects, in the form of a scale."""

from typing import Any

from kd.common.merging import merge
from kd.config.library import Library

Changes = dict[str, Any]

PUBLISHED_ANCHOR, PUBLISHED_LEVELS = 32, 5
"""Smallest anchor in pixels and number of levels of detectors as published for COCO."""
ONE_STAGE = ("retinanet", "gfl", "atss", "ddod", "tood", "vfnet")
POINTS = ("fcos", "vfnet")
REPPOINTS = ("reppoints", "reppoints_gn")
TWO_STAGE = ("faster_rcnn", "cascade_rcnn")
WITH_LEVELS = (*ONE_STAGE, "fcos", *REPPOINTS, *TWO_STAGE)
"""Detectors whose levels or anchors follow the objects. Those of SSD, YOLOv3, RTMDet and YOLOX
follow the input size."""
FIRST_STRIDE = 8
INFINITE = 100_000_000
OCTAVES = 2 ** (2 / 3)
"""Largest of the three anchors of a cell of RetinaNet, relative to the smallest."""
MATCHED = 0.71
"""Side of an object relative to an anchor, from which a square pair has an IoU of 0.5."""
CSP = ("rtmdet", "yolox")


def smallest_anchor(side: float) -> int:
    """Return the largest anchor of 8, 16 or 32 pixels that matches objects of a side in pixels."""
    return next((anchor for anchor in (32, 16) if anchor * MATCHED <= side), 8)


def levels(anchor: int, side: float) -> int:
    """Return how many levels, 3 to 5, have anchors up to objects of a side in pixels."""
    return next(
        (n for n in (3, 4) if anchor * 2 ** (n - 1) * OCTAVES / MATCHED >= side), PUBLISHED_LEVELS
    )


def changes_of(
    detector: str, anchor: int, count: int, narrow: bool, library: Library
) -> tuple[Changes, int | None]:
    """Return the changes of a detector's ``model``, and its input size if that is fixed.

    ``anchor``: its smallest anchor in pixels; ``count``: its levels; ``narrow``: neck and heads at
    half width, as at scale ``laptop``.
    """
    scale = library.scale("laptop", "kd start")
    narrowed = scale.detectors[detector] if narrow else {}
    size = scale.input_sizes.get(detector) if narrow and detector not in CSP else None
    if detector not in WITH_LEVELS or (
        (anchor, count) == (PUBLISHED_ANCHOR, PUBLISHED_LEVELS) and not narrow
    ):
        return narrowed, size
    return merge(narrowed, _pyramid(detector, anchor, count)), size


def _pyramid(detector: str, anchor: int, count: int) -> Changes:
    """Return the anchors and levels of a detector with a feature pyramid."""
    strides = [FIRST_STRIDE * 2**level for level in range(count)]
    neck, octave = {"num_outs": count}, anchor // FIRST_STRIDE
    if detector in TWO_STAGE:
        count = max(count, 4)  # RoIAlign reads four levels
        generator = {
            "scales": [anchor // 4],
            "strides": [4 * 2**level for level in range(count)],
        }
        return {"neck": {"num_outs": count}, "rpn_head": {"anchor_generator": generator}}
    if detector in REPPOINTS:
        head: Changes = {"point_strides": strides, "point_base_scale": octave}
        assigner = {"init": {"assigner": {"scale": octave}}}
        return {"neck": neck, "bbox_head": head, "train_cfg": assigner}
    head = {}
    if detector in POINTS:
        limits = _limits(anchor, count)
        head |= {"strides": strides, "regress_ranges": limits}
    if detector in ONE_STAGE:
        generator = {"strides": strides}
        if anchor != PUBLISHED_ANCHOR or detector == "retinanet":
            generator = {"octave_base_scale": octave, **generator}  # type: ignore[dict-item]
        head |= {"anchor_generator": generator}
    return {"neck": neck, "bbox_head": head}


def _limits(anchor: int, count: int) -> list[list[int]]:
    """Return the sides in pixels that the points of each level regress, as FCOS and VFNet do."""
    first = 64 if anchor == PUBLISHED_ANCHOR else anchor
    ends = [first * 2**level for level in range(count - 1)]
    return [[low, high] for low, high in zip([-1, *ends], [*ends, INFINITE], strict=True)]
