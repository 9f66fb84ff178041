"""Sums, counts and means over all processes: averaged gradients equal those of the joint batch."""

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
    """Restrict sums and counts to this process inside the block.

    ``kd.training.image_groups`` computes the losses of each group of images inside it.
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def shared_count(count: float | Tensor) -> float | Tensor:
    """Return the divisor of a sum over rows: the mean of ``count`` over processes.

    The total count is at least 1, so the quotient of an empty sum is 0. DistributedDataParallel
    averages gradients, so a sum divided by this count has the gradient of the joint batch.
    """
    world = _world()
    if world == 1:
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)
    # all_reduce overwrites its argument, which must not be the caller's tensor.
    total = torch.as_tensor(count, dtype=torch.float, device=_device()).clone()
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / world


def shared_sum(value: Tensor) -> Tensor:
    """Return the sum of ``value`` over processes, of its shape, with gradients in each process.

    A function of the whole batch's sum, such as an unsquared norm, needs it.
    """
    if _world() == 1:
        return value
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def mean_over(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean of values over all processes, weighted by a mask of their shape.

    It is sum(m v) / sum(m), and 0 for an empty mask. A sum of weights below 1 counts as 1.
    """
    if mask is None:
        return values.sum() / shared_count(values.numel())
    return (values * mask).sum() / shared_count(mask.sum())


def _world() -> int:
    distributed = torch.distributed
    if _alone.get() or not distributed.is_initialized():
        return 1
    return distributed.get_world_size()


def _device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
