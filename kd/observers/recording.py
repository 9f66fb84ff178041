"""Recording of the label assignment and the sampling inside mmdet's detection losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from kd.common.modules import LazyModule
from kd.observers.base import plain

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class Recording(NamedTuple):
    """Training targets of a head, an entry per image."""

    assigned: list[Tensor]
    """(N,): index of the prior's box in the ground truth, -1 without a box."""
    sampled: list[Tensor]
    """(N,): True if the class loss includes the prior, False if it is ignored or not sampled."""


@contextmanager
def wrapped(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a method of one object by ``wrap(method)`` in a block; blocks may be nested."""
    method, is_wrapped = getattr(owner, name), name in vars(owner)
    setattr(owner, name, wrap(method))
    try:
        yield
    finally:
        if is_wrapped:
            setattr(owner, name, method)
        else:
            delattr(owner, name)


@contextmanager
def anchor_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of an anchor head, including priors outside the border, without a box."""

    def record_targets(method: Any) -> Any:
        def recorded(priors: Any, valid: Tensor, *args: Any, **kwargs: Any) -> Any:
            targets = method(priors, valid, *args, **kwargs)
            spread_over_all(recording, head, priors, valid, args)
            return targets

        return recorded

    with ExitStack() as stack:
        recording = stack.enter_context(grid_assignment(head))
        stack.enter_context(wrapped(head, "_get_targets_single", record_targets))
        yield recording


def spread_over_all(
    recording: Recording, head: Any, priors: Any, valid: Tensor, arguments: tuple[Any, ...]
) -> None:
    """Spread the last image's rows over all priors: a head assigns and samples those inside alone.

    ``arguments``: those of the head's ``_get_targets_single``, with the image's meta data.
    """
    from mmdet.models.task_modules.prior_generators import anchor_inside_flags

    meta = next(value for value in arguments if isinstance(value, dict))
    border = head.train_cfg["allowed_border"]
    _spread(recording, -1, anchor_inside_flags(priors, valid, meta["img_shape"][:2], border))


@contextmanager
def class_assignment(head: Any) -> Iterator[Recording]:
    """Record the class targets of DDOD, which afterwards assigns the boxes of regression apart."""
    with anchor_assignment(head) as recording:
        yield recording
    for rows in recording:
        del rows[len(rows) // 2 :]


@contextmanager
def aligned_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of TOOD, by the assigner of the epoch: ATSS's or that of its outputs."""
    from mmdet.models.task_modules.prior_generators import anchor_inside_flags

    def record_targets(method: Any) -> Any:
        def recorded(
            scores: Any, boxes: Any, anchors: Any, valid: Any, truth: Any, metas: Any, **kwargs: Any
        ) -> Any:
            border = head.train_cfg["allowed_border"]
            inside = [
                anchor_inside_flags(torch.cat(levels), torch.cat(flags), meta["img_shape"], border)
                for levels, flags, meta in zip(anchors, valid, metas, strict=True)
            ]
            targets = method(scores, boxes, anchors, valid, truth, metas, **kwargs)
            for image, flags in enumerate(inside):
                _spread(recording, image, flags)
            return targets

        return recorded

    with ExitStack() as stack:
        recording = stack.enter_context(grid_assignment(head))
        stack.enter_context(wrapped(head, "get_targets", record_targets))
        yield recording


@contextmanager
def refined_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of RepPoints for classes and refined points; initial ones come first."""

    def record_targets(method: Any) -> Any:
        def recorded(proposals: Any, valid: Tensor, *args: Any, **kwargs: Any) -> Any:
            targets = method(proposals, valid, *args, **kwargs)
            _spread(recording, -1, valid)
            return targets

        return recorded

    with ExitStack() as stack:
        recording = stack.enter_context(grid_assignment(head))
        stack.enter_context(wrapped(head, "_get_targets_single", record_targets))
        yield recording
    for rows in recording:
        del rows[: len(rows) // 2]


def _spread(recording: Recording, image: int, inside: Tensor) -> None:
    """Spread an image's rows over all priors; the head assigns and samples those inside alone."""
    for rows, outside in zip(recording, (-1, False), strict=True):
        all_priors = rows[image].new_full((len(inside),), outside)
        all_priors[inside] = rows[image]
        rows[image] = all_priors


@contextmanager
def grid_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of YOLO's head, whose sampler gets every prior."""
    recording = Recording([], [])

    def sampling(method: Any) -> Any:
        def recorded(assign_result: Any, *args: Any, **kwargs: Any) -> Any:
            sampling_result = method(assign_result, *args, **kwargs)
            sampled = torch.zeros_like(assign_result.gt_inds, dtype=torch.bool)
            sampled[sampling_result.pos_inds] = sampled[sampling_result.neg_inds] = True
            # mmdet numbers boxes from 1; 0 is background and -1 is ignored.
            recording.assigned.append((assign_result.gt_inds - 1).clamp(min=-1))
            recording.sampled.append(sampled)
            return sampling_result

        return recorded

    with wrapped(head.sampler, "sample", sampling):
        yield recording


@contextmanager
def point_assignment(head: Any) -> Iterator[Recording]:
    """Record the targets of FCOS, from the box that each positive point regresses."""
    recording = Recording([], [])

    def targets(method: Any) -> Any:
        def recorded(truth: Any, points: Tensor, **kwargs: Any) -> Any:
            labels, distances = method(truth, points=points, **kwargs)
            boxes = torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)
            recording.assigned.append(_same_box(boxes, labels, truth, head.num_classes))
            recording.sampled.append(torch.ones_like(labels, dtype=torch.bool))
            return labels, distances

        return recorded

    with wrapped(head, "_get_targets_single", targets):
        yield recording


def _same_box(boxes: Tensor, labels: Tensor, truth: Any, background: int) -> Tensor:
    """Return the index (N,) of the ground-truth box that equals each row's, -1 for background."""
    indices = labels.new_full((len(boxes),), -1)
    positive = (labels < background).nonzero().flatten()
    if len(positive):
        # Distances to the sides have rounding errors: take the nearest box of the point's class.
        gap = (boxes[positive, None] - plain(truth.bboxes)).abs().sum(-1)
        gap[labels[positive, None] != truth.labels] = torch.inf
        indices[positive] = gap.argmin(1)
    return indices
