"""Sums and counts over all processes, so that their averaged gradients are those of one batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Restrict sums and counts to this process, as if no other one existed.

    ``kd.training.image_groups`` computes the losses of a group of images so.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def shared_count(count: float | Tensor) -> float | Tensor:
    """Return what to divide a sum over rows by: the count's mean over processes.

    At least one row is counted over all processes, so an empty sum stays 0. DistributedDataParallel
    averages gradients, so sums divided by this have the gradient of the joined batch.
    """
    world = _world()
    if world == 1:
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)
    total = torch.as_tensor(count, dtype=torch.float, device=_device()).clone()
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / world


def shared_sum(value: Tensor) -> Tensor:
    """Return the sum over processes, of the value's shape, with gradients to each one's part.

    For a function of the whole batch's sum, such as an unsquared norm.
    """
    if _world() == 1:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def _world() -> int:
    distributed = torch.distributed
    if _alone.get() or not distributed.is_initialized():
        return 1
    return distributed.get_world_size()


def _device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
