"""Sums, counts and means over the batch of a step, in all processes and all of its parts.

Gradients are averaged over processes and parts; they equal those of the joint batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kd.common.modules import LazyModule
from kd.methods.ops.parts import Parts

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


_alone: ContextVar[bool] = ContextVar("alone", default=False)
_parts: ContextVar[Parts | None] = ContextVar("parts", default=None)


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


@contextmanager
def over(parts: Parts | None) -> Iterator[None]:
    """Extend sums and counts in a block to all parts of a batch; None: to one part.

    Inside ``over(None)`` a sum is that of the current part of each process. Statistics of a batch
    normalization need it: their gradients in one part depend on all others.
    """
    token = _parts.set(parts)
    try:
        yield
    finally:
        _parts.reset(token)


def participants() -> int:
    """Return the number of processes times that of the parts of each one's batch."""
    parts = None if _alone.get() else _parts.get()
    return parts.participants if parts else processes()


def shared_count(count: float | Tensor) -> float | Tensor:
    """Return the divisor of a sum over rows: the mean of ``count`` over processes and parts.

    The total count is at least 1, so the quotient of an empty sum is 0. Gradients are averaged over
    processes and parts, so a sum divided by this count has the gradient of the joint batch.
    """
    number = participants()
    if number == 1:
        return count.clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)
    parts = _parts.get()
    if parts:
        local = torch.as_tensor(count, device=parts.device).detach()
        total = parts.total(local if local.is_floating_point() else local.float())
        return total.clamp(min=1) / number
    # all_reduce overwrites its argument, which must not be the caller's tensor.
    total = torch.as_tensor(count, dtype=torch.float, device=_device()).clone()
    torch.distributed.all_reduce(total)
    return total.clamp(min=1) / number


def shared_sum(value: Tensor, depth: int = 0) -> Tensor:
    """Return the sum of ``value`` over processes and parts, of its shape, with its gradients.

    A function of the whole batch's sum, such as an unsquared norm, needs it. In parts, the loss
    must depend on ``value`` through the sum alone. ``depth``: the number of earlier sums, one after
    the other, that ``value`` depends on.
    """
    if participants() == 1:
        return value
    parts = _parts.get()
    if parts:
        return parts.total(value, depth)
    from torch.distributed.nn.functional import all_reduce

    return all_reduce(value)


def mean_over(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean of values over the joint batch, weighted by a mask of their shape.

    It is sum(m v) / sum(m), and 0 for an empty mask. A sum of weights below 1 counts as 1.
    """
    if mask is None:
        return values.sum() / shared_count(values.numel())
    return (values * mask).sum() / shared_count(mask.sum())


def sums_of_chunks(
    function: Callable[..., list[Tensor]], chunks: Iterable[Any], sources: Sequence[Tensor]
) -> list[Tensor]:
    """Return each scalar of ``function(chunk, *sources)``, summed over chunks, with its gradients.

    The gradients at the sources are computed chunk by chunk, so that the graph of one chunk at a
    time is in memory. A sum has the function's value f, and is linear in the sources s: its graph
    is that of s . grad f.
    """
    graph = torch.is_grad_enabled()
    at = [source.detach().requires_grad_(graph and source.requires_grad) for source in sources]
    differentiated = [source for source in at if source.requires_grad]
    totals: list[Tensor] = []
    slopes: list[list[Tensor]] = []
    for chunk in chunks:
        scalars = function(chunk, *at)
        gradients = [
            _gradients(scalar, differentiated, scalar is not scalars[-1]) for scalar in scalars
        ]
        values = [scalar.detach() for scalar in scalars]
        totals = list(map(torch.add, totals, values)) if totals else values
        pairs = zip(slopes, gradients, strict=True)
        slopes = [list(map(torch.add, *pair)) for pair in pairs] if slopes else gradients
    moving = [source for source in sources if graph and source.requires_grad]
    return [
        total + _zero_with_slopes(moving, slope) if moving else total
        for total, slope in zip(totals, slopes, strict=True)
    ]


def _gradients(scalar: Tensor, sources: list[Tensor], again: bool) -> list[Tensor]:
    """Return the gradients of a scalar, 0 if it does not depend on the sources.

    ``again``: its graph is used by another scalar, too.
    """
    if not sources or not scalar.requires_grad:
        return [torch.zeros_like(source) for source in sources]
    return list(torch.autograd.grad(scalar, sources, retain_graph=again, materialize_grads=True))


def _zero_with_slopes(sources: list[Tensor], slopes: list[Tensor]) -> Tensor:
    """Return a scalar of value 0 whose gradients at the sources are the slopes."""
    pairs = zip(sources, slopes, strict=True)
    products = [source.flatten().dot(slope.flatten()) for source, slope in pairs]
    return torch.stack([product - product.detach() for product in products]).sum()


def processes() -> int:
    """Return the number of processes whose batches are joined; 1 inside of ``alone``."""
    distributed = torch.distributed
    if _alone.get() or not distributed.is_initialized():
        return 1
    return distributed.get_world_size()


def _device() -> str:
    return "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
