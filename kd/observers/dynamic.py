"""Observations of RTMDet's and YOLOX's heads, whose assigners match predictions to objects.

The number of positive priors of an object grows with the IoU of its best predictions. Early in
training it is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.observers.dense import DenseObservation, PointObservation, by_prior
from kd.observers.recording import Recording, grid_assignment, spread_over_all, wrapped

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


@contextmanager
def soft_label_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of RTMDet's head, including priors outside the padded image."""

    def record_targets(method: Any) -> Any:
        def recorded(
            scores: Tensor, boxes: Tensor, priors: Tensor, valid: Tensor, *args: Any, **kwargs: Any
        ) -> Any:
            targets = method(scores, boxes, priors, valid, *args, **kwargs)
            spread_over_all(recording, head, priors, valid, args)
            return targets

        return recorded

    with ExitStack() as stack:
        recording = stack.enter_context(grid_assignment(head))
        stack.enter_context(wrapped(head, "_get_targets_single", record_targets))
        yield recording


@contextmanager
def ota_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of YOLOX's head, which samples nothing in an image without objects."""

    def record_targets(method: Any) -> Any:
        def recorded(priors: Tensor, *args: Any, **kwargs: Any) -> Any:
            images = len(recording.assigned)
            targets = method(priors, *args, **kwargs)
            if len(recording.assigned) == images:
                recording.assigned.append(priors.new_full((len(priors),), -1, dtype=torch.long))
                recording.sampled.append(torch.ones_like(recording.assigned[-1], dtype=torch.bool))
            return targets

        return recorded

    with ExitStack() as stack:
        recording = stack.enter_context(grid_assignment(head))
        stack.enter_context(wrapped(head, "_get_targets_single", record_targets))
        yield recording


class DistanceObservation(PointObservation):
    """Observation of RTMDet: ``codes`` are distances from a point to the sides, in strides.

    A point lies at the upper left corner of its cell. A class output predicts the IoU of the box.
    """

    recording = staticmethod(soft_label_assignment)

    def _codes(self, raw: Tensor, prior: Tensor) -> Tensor:
        # mmdet's head multiplies its outputs by the strides in both modes.
        return raw / self.prior_strides[prior, None]


class ObjectnessObservation(DenseObservation):
    """Observation of YOLOX: class outputs, an encoded box and an objectness at each point.

    ``codes`` are the offset of the box's center from the point, in strides, and the logarithms of
    its width and height in strides. A point lies at the upper left corner of its cell. ``sampled``
    includes all priors: only those with an object enter the class loss, and all the objectness's.
    """

    recording = staticmethod(ota_assignment)

    @cached_property
    def level_priors(self) -> list[Tensor]:
        # (x, y) becomes (x, y, x, y), a box without area.
        return [points.repeat(1, 2) for points in super().level_priors]

    @cached_property
    def class_maps(self) -> list[Tensor]:
        """Per level (B, C, H, W): class logits on the condition that there is an object."""
        return [maps.float() for maps in self.outputs[0]]

    @cached_property
    def probability_maps(self) -> list[Tensor]:
        """Per level (B, C, H, W): objectness times class."""
        return [
            maps.sigmoid() * objectness.float().sigmoid()
            for maps, objectness in zip(self.class_maps, self.outputs[2], strict=True)
        ]

    @cached_property
    def probabilities(self) -> Tensor:
        """Objectness times class, (B, N, C)."""
        return by_prior(self.probability_maps, self.head.num_classes)

    def encode(self, boxes: Tensor, prior: Tensor) -> Tensor:
        return self.head._get_l1_target(torch.zeros_like(boxes), boxes, self._points(prior))

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        return self.head._bbox_decode(self._points(prior), codes)

    def _points(self, prior: Tensor) -> Tensor:
        """Return points and strides (P, 4) of priors, as mmdet's head reads them."""
        strides = self.prior_strides[prior, None]
        return torch.cat([self.priors[prior, :2], strides, strides], 1)
