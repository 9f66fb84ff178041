"""What a method sees of a detector, computed once and only when it is read.

A teacher's observation never runs deeper than the methods in the run ask for. A student's holds
the maps and the label assignment that its own detection loss was computed from.
"""

from typing import Any

from kd.observation.base import Batch, Candidates, Channels, Observation, Progress, channels_of
from kd.observation.dense import (
    DenseObservation,
    DistributionObservation,
    GridObservation,
    PointObservation,
)
from kd.observation.two_stage import ProposalObservation, TwoStageObservation

__all__ = [
    "OBSERVABLE",
    "SHARED",
    "TWO_STAGE",
    "Batch",
    "Candidates",
    "Channels",
    "DenseObservation",
    "Observation",
    "Progress",
    "ProposalObservation",
    "TwoStageObservation",
    "channels_of",
    "observe",
]

_MAPS = frozenset({"neck", "stages"})
_DENSE = _MAPS | {"class_maps", "priors", "candidates"}

OBSERVABLE: dict[str, frozenset[str]] = {
    "anchor": _DENSE | {"pyramid", "anchors", "rankings"},
    "gfl": _DENSE | {"pyramid", "anchors", "rankings"},
    "point": _DENSE | {"pyramid", "rankings"},
    "ssd": _DENSE | {"anchors", "rankings"},
    "yolo": _DENSE | {"anchors"},
    "two_stage": _MAPS | {"pyramid", "priors", "anchors", "candidates", "rois"},
    "cascade": _MAPS | {"pyramid", "anchors"},
}
"""What each observer offers to methods.

neck: maps by level; pyramid: these have one width; stages: the backbone's maps; class_maps: class
outputs on the neck's cells; priors: logits, boxes and assignment of every prior; anchors: priors
with a width and a height; rankings: several positive priors per object; candidates: the boxes that
are finally classified, all priors or the sampled RoIs; rois: proposals and the features pooled from
them.
"""

SHARED = _MAPS
"""What two different detectors have in common where their pyramids are alike."""

TWO_STAGE = frozenset({"two_stage", "cascade"})
"""Observers of detectors with a second stage."""


def observer_of(detector: Any) -> str:
    """Return which key of OBSERVABLE describes a detector."""
    from mmdet.models.dense_heads import FCOSHead, SSDHead, YOLOV3Head
    from mmdet.models.roi_heads import CascadeRoIHead

    if hasattr(detector, "roi_head"):
        return "cascade" if isinstance(detector.roi_head, CascadeRoIHead) else "two_stage"
    head = detector.bbox_head
    kinds = {"point": FCOSHead, "yolo": YOLOV3Head, "ssd": SSDHead}
    known = [name for name, kind in kinds.items() if isinstance(head, kind)]
    return known[0] if known else "gfl" if hasattr(head, "integral") else "anchor"


_OBSERVERS: dict[str, type[DenseObservation]] = {
    "anchor": DenseObservation,
    "gfl": DistributionObservation,
    "point": PointObservation,
    "ssd": DenseObservation,
    "yolo": GridObservation,
    "two_stage": TwoStageObservation,
    "cascade": ProposalObservation,
}


def observe(detector: Any, batch: Batch, *, frozen: bool) -> Any:
    """Return the observation that fits a detector's head."""
    return observer_class(detector)(detector, batch, frozen=frozen)


def observer_class(detector: Any) -> type[DenseObservation]:
    """Return the class of a detector's observations."""
    return _OBSERVERS[observer_of(detector)]
