"""Observations of a detector: its maps, outputs and label assignment, for methods to read.

An observation computes each value once, when a method reads it. A teacher runs only up to the
deepest layer that the methods of the run use. A student's observation holds the maps and the label
assignment that its detection loss was computed from.
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
from kd.observers.dynamic import DistanceObservation, ObjectnessObservation
from kd.observers.heads import OBSERVABLE, offered
from kd.observers.refined import (
    AlignedObservation,
    PointSetObservation,
    SeparateObservation,
    StarObservation,
)
from kd.observers.two_stage import ProposalObservation, TwoStageObservation

__all__ = [
    "OBSERVABLE",
    "Batch",
    "Candidates",
    "Channels",
    "DenseObservation",
    "MapsObservation",
    "Observation",
    "Progress",
    "TwoStageObservation",
    "channels_of",
    "observe",
    "offered",
]

OBSERVERS: dict[str, type[Observation]] = {
    "anchor": DenseObservation,
    "gfl": DistributionObservation,
    "point": PointObservation,
    "vfnet": StarObservation,
    "tood": AlignedObservation,
    "ddod": SeparateObservation,
    "reppoints": PointSetObservation,
    "ssd": DenseObservation,
    "yolo": GridObservation,
    "rtmdet": DistanceObservation,
    "yolox": ObjectnessObservation,
    "two_stage": TwoStageObservation,
    "cascade": ProposalObservation,
    "maps": MapsObservation,
}
"""Classes of observations by observer, the keys of OBSERVABLE."""


def observe(detector: Any, batch: Batch, *, frozen: bool) -> Any:
    """Return the observation of a batch by the detector's composed observer.

    The detector is one of ``kd.models.build.build_model``, which sets its ``observer``.
    """
    return OBSERVERS[detector.observer](detector, batch, frozen=frozen)
