"""Features that methods can read of a detector, by the types of its heads in mmdet's names.

The planner and composition read these tables. Nothing here imports torch.
"""

from typing import Any, NamedTuple

from kd.common.errors import suggest

_MAPS = frozenset({"neck", "stages"})
_DENSE = _MAPS | {"class_maps", "priors", "candidates"}
_TOWERS = frozenset({"towers"})
_SCORES = frozenset({"score_maps"})
_SIGMOIDS = _SCORES | {"class_sigmoids"}

OBSERVABLE: dict[str, frozenset[str]] = {
    "anchor": _DENSE | _SIGMOIDS | _TOWERS | {"pyramid", "anchors", "rankings"},
    "gfl": _DENSE | _SIGMOIDS | _TOWERS | {"pyramid", "anchors", "rankings", "sides"},
    "point": _DENSE | _SIGMOIDS | _TOWERS | {"pyramid", "rankings"},
    "vfnet": _DENSE | _SIGMOIDS | {"pyramid", "anchors", "rankings"},
    "tood": _DENSE | _SIGMOIDS | {"pyramid", "anchors", "rankings"},
    "ddod": _DENSE | _SIGMOIDS | {"pyramid", "anchors", "rankings"},
    "reppoints": _DENSE | _SIGMOIDS | {"pyramid"},
    "ssd": _DENSE | {"anchors", "rankings"},
    "yolo": _DENSE | {"anchors"},
    "rtmdet": _DENSE | _SIGMOIDS | {"pyramid", "rankings"},
    "yolox": _DENSE | {"pyramid", "rankings"},
    "two_stage": _MAPS | _SCORES | {"pyramid", "priors", "anchors", "candidates", "rois"},
    "cascade": _MAPS | _SCORES | {"pyramid", "anchors"},
    "maps": _MAPS,
}
"""Features that each observer offers to methods.

neck: maps of the neck by level; pyramid: these have one width; stages: the backbone's maps;
class_maps: class outputs on the neck's cells; class_sigmoids: each of these is a binary decision on
one class, trained at every prior (not a softmax, nor classes behind an objectness); score_maps:
such decisions on the neck's cells, on classes or, in an RPN, on any object; priors: logits,
boxes and assignment of every prior; anchors: priors with a width and a height; rankings: several
positive priors per object; candidates: the boxes that are finally classified, all priors or the
sampled RoIs; rois: proposals and the features pooled from them; sides: a distribution of the
distance to each side of a box; towers: the stacked convolutions of the class branch and of the box
branch.
"""

EQUAL_SETTINGS: dict[str, tuple[str, ...]] = {
    "sides": ("reg_max",),
    "towers": ("stacked_convs", "feat_channels", "in_channels"),
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
    "VFNetHead": "vfnet",
    "TOODHead": "tood",
    "DDODHead": "ddod",
    "RepPointsHead": "reppoints",
    "CompleteSSDHead": "ssd",
    "YOLOV3Head": "yolo",
    "RTMDetSepBNHead": "rtmdet",
    "YOLOXHead": "yolox",
}
"""Observers by the type of a one-stage head.

A type that derives from one of these is not in the table: FSAFHead is a RetinaHead whose loss
assigns labels differently. A detector's file may declare its observer.
"""
TOWER_HEADS = frozenset({"RetinaHead", "ATSSHead", "GFLHead", "FCOSHead"})
"""Types of heads with two stacks of convolutions, which ``kd.observers.branches`` names."""
ROI_HEADS = {"StandardRoIHead": "two_stage", "CascadeRoIHead": "cascade"}
"""Observers by the type of a second stage, behind an ``RPNHead``."""


class Requirement(NamedTuple):
    """Requirement of an observer that a detector's file declares for its head."""

    dense: str
    """Class of mmdet that the head at every prior derives from."""
    roi: str | None = None
    """Class of mmdet that the second stage derives from; None for a detector without one."""
    attributes: tuple[str, ...] = ("prior_generator", "bbox_coder", "sampler")
    """Attributes of the head at every prior."""


REQUIRED = {
    "anchor": Requirement("AnchorHead"),
    "gfl": Requirement("GFLHead"),
    "point": Requirement("FCOSHead", attributes=("prior_generator", "bbox_coder")),
    "vfnet": Requirement("VFNetHead", attributes=("atss_prior_generator", "bbox_coder", "sampler")),
    "tood": Requirement("TOODHead"),
    "ddod": Requirement("DDODHead"),
    "reppoints": Requirement("RepPointsHead", attributes=("prior_generator", "sampler")),
    "ssd": Requirement("SSDHead"),
    "yolo": Requirement("YOLOV3Head"),
    "rtmdet": Requirement("RTMDetSepBNHead"),
    "yolox": Requirement("YOLOXHead", attributes=("prior_generator", "sampler")),
    "two_stage": Requirement("RPNHead", "StandardRoIHead"),
    "cascade": Requirement("RPNHead", "CascadeRoIHead"),
}
"""Requirements of the observers that a detector's file may declare for a head not listed above.

``kd.models.build`` checks them when the detector is built. ``kd.observers.declared`` also compares
the observer's losses with the head's, before a distilled student trains.
"""


def observer_of_types(dense: str, roi: str | None = None, declared: str | None = None) -> str:
    """Return the observer of a detector: that of its listed heads, otherwise the declared one.

    ``dense``: the type of its one-stage head or RPN; ``roi``: that of its second stage, if any.
    Without a declaration, ``maps`` observes a head that is not listed.
    """
    if roi is None:
        observer = DENSE_HEADS.get(dense)
    else:
        observer = ROI_HEADS.get(roi) if dense == "RPNHead" else None
    return observer or declared or "maps"


def observer_of_model(model: dict[str, Any], declared: str | None = None) -> str:
    """Return the observer of mmdet's model dict; ``declared`` is that of the detector's file."""
    return observer_of_types(*head_types(model), declared)


def check_declaration(model: dict[str, Any], declared: str | None) -> None:
    """Raise ValueError if no detector, or not that of a model dict, may declare the observer."""
    if declared is None:
        return
    if declared not in REQUIRED:
        raise ValueError(f"no 'observer' {declared!r}; {suggest(declared, REQUIRED)}")
    if (observer := observer_of_model(model, declared)) != declared:
        heads = " behind ".join(filter(None, reversed(head_types(model))))
        raise ValueError(
            f"'observer' is {declared!r}, but that of {heads} is {observer!r}; leave it out"
        )


def head_types(model: dict[str, Any]) -> tuple[str, str | None]:
    """Return the types of the head that predicts at every prior and of the second stage, if any."""
    dense = model.get("rpn_head") or model.get("bbox_head") or {}
    roi = model.get("roi_head")
    return _type(dense), _type(roi) if roi else None


def offered(model: dict[str, Any], declared: str | None = None) -> frozenset[str]:
    """Return the features that the detector of a model dict offers, as OBSERVABLE names them.

    ``declared`` is the observer of the detector's file. For an unknown head, the neck's settings
    decide if the pyramid has one width.
    """
    observer = observer_of_model(model, declared)
    one_width = isinstance(model.get("neck", {}).get("out_channels"), int)
    if observer == "maps":
        return OBSERVABLE[observer] | ({"pyramid"} if one_width else set())
    head = model.get("rpn_head") or model.get("bbox_head") or {}
    is_sigmoid = head.get("loss_cls", {}).get("use_sigmoid", True)
    absent = (frozenset() if is_sigmoid else _SIGMOIDS) | (
        frozenset() if _type(head) in TOWER_HEADS else _TOWERS
    )
    return OBSERVABLE[observer] - absent


def _type(part: dict[str, Any]) -> str:
    """Return a part's type without its registry (``mmdet.RPNHead``)."""
    return str(part.get("type", "")).rpartition(".")[2]
