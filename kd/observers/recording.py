"""Keeps the label assignment and the sampling that mmdet makes inside a loss."""

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


class Recorded(NamedTuple):
    """What a head was trained on, an entry per image."""

    assigned: list[Tensor]
    """(N,): index of the prior's box in the ground truth, -1 where it has none."""
    sampled: list[Tensor]
    """(N,): whether the class loss may see the prior, neither ignored nor left out."""


@contextmanager
def wrapped(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a method of one object by ``wrap(method)`` for a while."""
    setattr(owner, name, wrap(getattr(owner, name)))
    try:
        yield
    finally:
        delattr(owner, name)


@contextmanager
def anchor_assignment(head: Any) -> Iterator[Recorded]:
    """Collect what an anchor head gives each prior, among them those that its border leaves out."""
    from mmdet.models.task_modules.prior_generators import anchor_inside_flags

    def targets(method: Any) -> Any:
        def recorded(priors: Any, valid: Tensor, *args: Any, **kwargs: Any) -> Any:
            result = method(priors, valid, *args, **kwargs)
            meta = next(value for value in args if isinstance(value, dict))
            border = head.train_cfg["allowed_border"]
            inside = anchor_inside_flags(priors, valid, meta["img_shape"][:2], border)
            for rows, outside in zip(kept, (-1, False), strict=True):
                everywhere = rows[-1].new_full((len(priors),), outside)
                everywhere[inside] = rows[-1]
                rows[-1] = everywhere
            return result

        return recorded

    with ExitStack() as stack:
        kept = stack.enter_context(grid_assignment(head))
        stack.enter_context(wrapped(head, "_get_targets_single", targets))
        yield kept


@contextmanager
def grid_assignment(head: Any) -> Iterator[Recorded]:
    """Collect it of YOLO's head, whose sampler sees every prior."""
    kept = Recorded([], [])

    def sampling(method: Any) -> Any:
        def recorded(assign_result: Any, *args: Any, **kwargs: Any) -> Any:
            result = method(assign_result, *args, **kwargs)
            sampled = torch.zeros_like(assign_result.gt_inds, dtype=torch.bool)
            sampled[result.pos_inds] = sampled[result.neg_inds] = True
            kept.assigned.append((assign_result.gt_inds - 1).clamp(min=-1))
            kept.sampled.append(sampled)
            return result

        return recorded

    with wrapped(head.sampler, "sample", sampling):
        yield kept


@contextmanager
def point_assignment(head: Any) -> Iterator[Recorded]:
    """Collect it of FCOS, from the box that each positive point is to regress."""
    kept = Recorded([], [])

    def targets(method: Any) -> Any:
        def recorded(truth: Any, points: Tensor, **kwargs: Any) -> Any:
            labels, distances = method(truth, points=points, **kwargs)
            boxes = torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)
            kept.assigned.append(_same_box(boxes, labels, truth, head.num_classes))
            kept.sampled.append(torch.ones_like(labels, dtype=torch.bool))
            return labels, distances

        return recorded

    with wrapped(head, "_get_targets_single", targets):
        yield kept


def _same_box(boxes: Tensor, labels: Tensor, truth: Any, background: int) -> Tensor:
    """Return the (N,) index of the ground-truth box that equals each row's, -1 for background."""
    found = labels.new_full((len(boxes),), -1)
    positive = (labels < background).nonzero().flatten()
    if len(positive):
        gap = (boxes[positive, None] - plain(truth.bboxes)).abs().sum(-1)
        gap[labels[positive, None] != truth.labels] = torch.inf
        found[positive] = gap.argmin(1)
    return found
