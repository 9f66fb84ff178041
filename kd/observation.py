"""What a method sees of a detector, computed once and only when it is read.

A teacher's observation never runs deeper than the methods in the run ask for. A student's holds
the maps and the label assignment that its own detection loss was computed from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kd.lazy import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")

OBSERVABLE: dict[str, frozenset[str]] = {
    "anchor": frozenset({"neck", "class_maps", "logits", "boxes", "priors", "assignment"}),
    "gfl": frozenset({"neck", "class_maps", "logits", "boxes", "priors", "assignment"}),
}
"""What each observer offers to methods."""


@dataclass(frozen=True)
class Batch:
    """Ground truth and images of one step: boxes xyxy in pixels of the network's input."""

    inputs: Tensor
    """(B, 3, H, W), normalised and padded."""
    samples: list[Any]
    """mmdet's DetDataSample of each image."""

    @cached_property
    def gt_boxes(self) -> list[Tensor]:
        """Per image (G, 4)."""
        return [_plain(sample.gt_instances.bboxes) for sample in self.samples]

    @cached_property
    def gt_labels(self) -> list[Tensor]:
        """Per image (G,), class indices."""
        return [sample.gt_instances.labels for sample in self.samples]

    @cached_property
    def gt_offsets(self) -> Tensor:
        """(B,): what to add to a box's index in its image to get its index in the batch."""
        counts = torch.tensor([len(labels) for labels in self.gt_labels], device=self.inputs.device)
        return counts.cumsum(0) - counts


class Observation:
    """A dense head's view: maps by level, and everything per prior with the levels joined.

    Priors are ordered by level, then row, column and anchor; N is their number.
    """

    def __init__(self, detector: Any, batch: Batch, *, frozen: bool) -> None:
        self.detector = detector
        self.head = detector.bbox_head
        self.batch = batch
        self.frozen = frozen
        self.assignment: Tensor | None = None
        """(B, N): index of the prior's box in its image's ground truth, -1 where it has none."""

    @cached_property
    def neck(self) -> list[Tensor]:
        """Per level (B, C, H, W)."""
        with self._gradients():
            return list(self.detector.extract_feat(self.batch.inputs))

    @cached_property
    def outputs(self) -> tuple[list[Tensor], ...]:
        """What the head makes of the neck maps: class maps, box maps and more by level."""
        with self._gradients():
            return self.head(tuple(self.neck))

    @cached_property
    def class_maps(self) -> list[Tensor]:
        """Per level (B, A*K, H, W), logits of K sigmoid or softmax outputs for A anchors."""
        return [maps.float() for maps in self.outputs[0]]

    @cached_property
    def logits(self) -> Tensor:
        """(B, N, K)."""
        return _by_prior(self.class_maps, self.head.cls_out_channels)

    @cached_property
    def priors(self) -> Tensor:
        """(N, 4), xyxy in pixels."""
        sizes = [maps.shape[-2:] for maps in self.outputs[0]]
        levels = self.head.prior_generator.grid_priors(sizes, device=self.batch.inputs.device)
        return torch.cat([_plain(level) for level in levels])

    @property
    def softmax(self) -> bool:
        """Whether the class outputs share one softmax instead of a sigmoid each."""
        return not self.head.use_sigmoid_cls

    def boxes(self, image: Tensor, prior: Tensor) -> Tensor:
        """Return the decoded boxes (P, 4), xyxy in pixels, of P priors given by (image, prior)."""
        with self._gradients():
            return self._decode(self._box_codes[image, prior], prior)

    def losses(self) -> dict[str, Any]:
        """Return mmdet's detection losses, and keep the label assignment they were made with."""
        from mmdet.models.utils import unpack_gt_instances

        truth, ignored, metas = unpack_gt_instances(self.batch.samples)
        with _recording(self.head) as assigned:
            losses = self.head.loss_by_feat(*self.outputs, truth, metas, ignored)
        self.assignment = torch.stack(assigned)
        return losses

    @cached_property
    def _box_codes(self) -> Tensor:
        channels = self.outputs[1][0].shape[1] // self.head.num_base_priors
        return _by_prior([maps.float() for maps in self.outputs[1]], channels)

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        return _plain(self.head.bbox_coder.decode(self.priors[prior], codes))

    @contextmanager
    def _gradients(self) -> Iterator[None]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            yield


class DistributionObservation(Observation):
    """GFL: a side is the mean of a distribution, in strides from the prior's centre."""

    def _decode(self, codes: Tensor, prior: Tensor) -> Tensor:
        centres = (self.priors[prior, :2] + self.priors[prior, 2:]) / 2
        distances = self.head.integral(codes) * self._strides[prior, None]
        return self.head.bbox_coder.decode(centres, distances)

    @cached_property
    def _strides(self) -> Tensor:
        """(N,), pixels."""
        steps = [stride[0] for stride in self.head.prior_generator.strides]
        counts = [
            maps.shape[-2] * maps.shape[-1] * self.head.num_base_priors for maps in self.outputs[0]
        ]
        device = self.batch.inputs.device
        return torch.tensor(steps, device=device, dtype=torch.float).repeat_interleave(
            torch.tensor(counts, device=device)
        )


def observe(detector: Any, batch: Batch, *, frozen: bool) -> Observation:
    """Return the observation that fits a detector's head."""
    distribution = hasattr(detector.bbox_head, "integral")
    return (DistributionObservation if distribution else Observation)(
        detector, batch, frozen=frozen
    )


@contextmanager
def _recording(head: Any) -> Iterator[list[Tensor]]:
    """Collect, per image, the (N,) ground-truth index that the head's assigner gives each prior."""
    from mmdet.models.task_modules.prior_generators import anchor_inside_flags

    assigned: list[Tensor] = []
    targets_of_image, assign = head._get_targets_single, head.assigner.assign

    def recorded_assign(*args: Any, **kwargs: Any) -> Any:
        result = assign(*args, **kwargs)
        assigned.append((result.gt_inds - 1).clamp(min=-1))
        return result

    def recorded_targets(priors: Any, valid: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = targets_of_image(priors, valid, *args, **kwargs)
        meta = next(value for value in args if isinstance(value, dict))
        border = head.train_cfg["allowed_border"]
        inside = anchor_inside_flags(priors, valid, meta["img_shape"][:2], border)
        everywhere = assigned[-1].new_full((len(priors),), -1)
        everywhere[inside] = assigned[-1]
        assigned[-1] = everywhere
        return result

    head._get_targets_single, head.assigner.assign = recorded_targets, recorded_assign
    try:
        yield assigned
    finally:
        del head._get_targets_single, head.assigner.assign


def _by_prior(maps: list[Tensor], channels: int) -> Tensor:
    """Join maps (B, A*channels, H, W) of all levels into (B, N, channels)."""
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(len(level), -1, channels) for level in maps], 1
    )


def _plain(boxes: Any) -> Tensor:
    """Return the (N, 4) tensor of boxes that mmdet may have wrapped in its own type."""
    return boxes.tensor if hasattr(boxes, "tensor") else boxes
