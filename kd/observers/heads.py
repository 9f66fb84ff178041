"""Features that methods can read of a detector, by the types of its heads in mmdet's names.

The planner and composition read these tables. Nothing here imports torch.
"""

from typing import Any

_MAPS = frozenset({"neck", "stages"})
_DENSE = _MAPS | {"class_maps", "priors", "candidates"}
_TOWERS = frozenset({"towers"})
_SIGMOIDS = frozenset({"class_sigmoids"})

OBSERVABLE: dict[str, frozenset[str]] = {
    "anchor": _DENSE | _SIGMOIDS | _TOWERS | {"pyramid", "anchors", "rankings"},
    "gfl": _DENSE | _SIGMOIDS | _TOWERS | {"pyramid", "anchors", "rankings", "sides"},
    "point": _DENSE | _SIGMOIDS | _TOWERS | {"pyramid", "rankings"},
    "ssd": _DENSE | {"anchors", "rankings"},
    "yolo": _DENSE | {"anchors"},
    "two_stage": _MAPS | {"pyramid", "priors", "anchors", "candidates", "rois"},
    "cascade": _MAPS | {"pyramid", "anchors"},
    "maps": _MAPS,
}
"""Features that each observer offers to methods.

neck: maps of the neck by level; pyramid: these have one width; stages: the backbone's maps;
class_maps: class outputs on the neck's cells; class_sigmoids: each of these is a binary decision on
one class, trained at every prior (not a softmax, nor classes behind an objectness); priors: logits,
boxes and assignment of every prior; anchors: priors with a width and a height; rankings: several
positive priors per object; candidates: the boxes that are finally classified, all priors or the
sampled RoIs; rois: proposals and the features pooled from them; sides: a distribution of the
distance to each side of a box; towers: the stacked convolutions of the class branch and of the box
branch.
"""

EQUAL_SETTINGS: dict[str, tuple[str, ...]] = {
    "sides": ("reg_max",),
    "towers": ("stacked_convs", "feat_channels"),
}
"""Settings of the heads that teacher and student must have in common, by feature read from both."""

SHARED = _MAPS
"""Features that two different detectors share if their pyramids are alike."""

TWO_STAGE = frozenset({"two_stage", "cascade"})
"""Observers of detectors with a second stage."""

DENSE_HEADS = {
    "RetinaHead": "anchor",
    "ATSSHead": "anchor",
    "GFLHead": "gfl",
    "FCOSHead": "point",
    "CompleteSSDHead": "ssd",
    "YOLOV3Head": "yolo",
}
"""Observers by the type of a one-stage head.

A type that derives from one of these is not in the table: VFNetHead is an ATSSHead whose loss
assigns labels differently.
"""
ROI_HEADS = {"StandardRoIHead": "two_stage", "CascadeRoIHead": "cascade"}
"""Observers by the type of a second stage, behind an ``RPNHead``."""


def observer_of_types(dense: str, roi: str | None = None) -> str:
    """Return the observer of a detector; ``maps`` if no observer reads predictions of its head.

    ``dense``: the type of its one-stage head or RPN; ``roi``: that of its second stage, if any.
    """
    if roi is None:
        return DENSE_HEADS.get(dense, "maps")
    return ROI_HEADS.get(roi, "maps") if dense == "RPNHead" else "maps"


def observer_of_model(model: dict[str, Any]) -> str:
    """Return the observer of mmdet's model dict."""
    return observer_of_types(*head_types(model))


def head_types(model: dict[str, Any]) -> tuple[str, str | None]:
    """Return the types of the head that predicts at every prior and of the second stage, if any."""
    dense = model.get("rpn_head") or model.get("bbox_head") or {}
    roi = model.get("roi_head")
    return _type(dense), _type(roi) if roi else None


def offered(model: dict[str, Any]) -> frozenset[str]:
    """Return the features that the detector of a model dict offers, as OBSERVABLE names them.

    For an unknown head, the neck's settings decide if the pyramid has one width.
    """
    observer = observer_of_model(model)
    one_width = isinstance(model.get("neck", {}).get("out_channels"), int)
    if observer == "maps":
        return OBSERVABLE[observer] | ({"pyramid"} if one_width else set())
    loss = model.get("bbox_head", {}).get("loss_cls", {})
    return OBSERVABLE[observer] - (frozenset() if loss.get("use_sigmoid", True) else _SIGMOIDS)


def _type(part: dict[str, Any]) -> str:
    """Return a part's type without its registry (``mmdet.RPNHead``)."""
    return str(part.get("type", "")).rpartition(".")[2]
