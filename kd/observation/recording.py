"""Keeps the label assignment that mmdet makes inside a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from kd.lazy import LazyModule
from kd.observation.base import plain

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


@contextmanager
def wrapped(owner: Any, name: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Replace a method of one object by ``wrap(method)`` for a while."""
    setattr(owner, name, wrap(getattr(owner, name)))
    try:
        yield
    finally:
        delattr(owner, name)


@contextmanager
def anchor_assignment(head: Any) -> Iterator[list[Tensor]]:
    """Collect, per image, the (N,) ground-truth index that an anchor head gives each prior."""
    from mmdet.models.task_modules.prior_generators import anchor_inside_flags

    assigned: list[Tensor] = []

    def targets(method: Any) -> Any:
        def recorded(priors: Any, valid: Tensor, *args: Any, **kwargs: Any) -> Any:
            result = method(priors, valid, *args, **kwargs)
            meta = next(value for value in args if isinstance(value, dict))
            border = head.train_cfg["allowed_border"]
            inside = anchor_inside_flags(priors, valid, meta["img_shape"][:2], border)
            everywhere = assigned[-1].new_full((len(priors),), -1)
            everywhere[inside] = assigned[-1]
            assigned[-1] = everywhere
            return result

        return recorded

    with ExitStack() as stack:
        stack.enter_context(_assigner(head, assigned))
        stack.enter_context(wrapped(head, "_get_targets_single", targets))
        yield assigned


@contextmanager
def grid_assignment(head: Any) -> Iterator[list[Tensor]]:
    """Collect it of YOLO's head, whose assigner sees every prior."""
    assigned: list[Tensor] = []
    with _assigner(head, assigned):
        yield assigned


@contextmanager
def point_assignment(head: Any) -> Iterator[list[Tensor]]:
    """Collect it of FCOS, from the box that each positive point is to regress."""
    assigned: list[Tensor] = []

    def targets(method: Any) -> Any:
        def recorded(truth: Any, points: Tensor, **kwargs: Any) -> Any:
            labels, distances = method(truth, points=points, **kwargs)
            boxes = torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)
            assigned.append(_same_box(boxes, labels, truth, head.num_classes))
            return labels, distances

        return recorded

    with wrapped(head, "_get_targets_single", targets):
        yield assigned


@contextmanager
def _assigner(head: Any, assigned: list[Tensor]) -> Iterator[None]:
    def assigning(method: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            assigned.append((result.gt_inds - 1).clamp(min=-1))
            return result

        return recorded

    with wrapped(head.assigner, "assign", assigning):
        yield


def _same_box(boxes: Tensor, labels: Tensor, truth: Any, background: int) -> Tensor:
    """Return the (N,) index of the ground-truth box that equals each row's, -1 for background."""
    found = labels.new_full((len(boxes),), -1)
    positive = (labels < background).nonzero().flatten()
    if len(positive):
        gap = (boxes[positive, None] - plain(truth.bboxes)).abs().sum(-1)
        gap[labels[positive, None] != truth.labels] = torch.inf
        found[positive] = gap.argmin(1)
    return found
