"""What a method sees of a detector, computed once and only when it is read.

A teacher's observation never runs deeper than the methods in the run ask for. A student's holds
the maps and the label assignment that its own detection loss was computed from.
"""

from typing import Any

from kd.observers.base import (
    Batch,
    Candidates,
    Channels,
    MapsObservation,
    Observation,
    Progress,
    channels_of,
)
from kd.observers.dense import (
    DenseObservation,
    DistributionObservation,
    GridObservation,
    PointObservation,
)
from kd.observers.heads import OBSERVABLE, SHARED, TWO_STAGE, observer_of_types, offered
from kd.observers.two_stage import ProposalObservation, TwoStageObservation

__all__ = [
    "OBSERVABLE",
    "SHARED",
    "TWO_STAGE",
    "Batch",
    "Candidates",
    "Channels",
    "DenseObservation",
    "MapsObservation",
    "Observation",
    "Progress",
    "ProposalObservation",
    "TwoStageObservation",
    "channels_of",
    "observe",
    "observer_of",
    "offered",
]


def observer_of(detector: Any) -> str:
    """Return which key of OBSERVABLE describes a detector."""
    roi = getattr(detector, "roi_head", None)
    dense = detector.bbox_head if roi is None else detector.rpn_head
    return observer_of_types(type(dense).__name__, None if roi is None else type(roi).__name__)


_OBSERVERS: dict[str, type[Observation]] = {
    "anchor": DenseObservation,
    "gfl": DistributionObservation,
    "point": PointObservation,
    "ssd": DenseObservation,
    "yolo": GridObservation,
    "two_stage": TwoStageObservation,
    "cascade": ProposalObservation,
    "maps": MapsObservation,
}


def observe(detector: Any, batch: Batch, *, frozen: bool) -> Any:
    """Return the observation that fits a detector's head."""
    return observer_class(detector)(detector, batch, frozen=frozen)


def observer_class(detector: Any) -> type[Observation]:
    """Return the class of a detector's observations."""
    return _OBSERVERS[observer_of(detector)]
