"""Counter of operations at which the host waits for a GPU, also on a machine without one.

These are a value that Python needs (``.item()``, ``if tensor``), a shape that depends on values
(``nonzero``, a mask as an index), and a copy that is not asynchronous
(``torch.tensor(list, device=...)``, ``.tolist()``). Without a GPU every tensor counts as one on a
GPU. Tensors that a program creates on the host are then counted too, and copies by ``.to`` are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = frozenset(
    {
        "aten._local_scalar_dense",  # item, bool, int, float, an index that is a tensor
        "aten.nonzero",
        "aten.masked_select",
        "aten._unique",
        "aten._unique2",
        "aten.unique_dim",
        "aten.unique_consecutive",
        "aten.bincount",
        "aten.equal",
        "torchvision.nms",
    }
)
"""Operators whose result, or its shape, the host needs."""
TO_HOST = frozenset({"tolist", "cpu", "numpy", "__array__"})
TO_DEVICE = frozenset({"tensor", "as_tensor", "new_tensor"})


@contextmanager
def synchronizations() -> Iterator[Counter[str]]:
    """Count the synchronizations of a block by operator, as ``{"aten.nonzero": 2}``."""
    counts: Counter[str] = Counter()
    with watching(lambda operator: counts.update([operator])):
        yield counts


@contextmanager
def watching(report: Callable[[str], None]) -> Iterator[None]:
    """Call ``report`` with the operator's name at each synchronization of a block."""
    calls = _Calls(report)
    with calls, _Operators(report, calls):
        yield


class _Calls(TorchFunctionMode):
    """Function mode that reports copies, and notes assignments of a number under a mask."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__()
        self.report = report
        self.filling = False
        """True during the assignment of a number under a mask, which needs no host."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(function, "__name__", "")
        if (name in TO_HOST and _on_device(args[0])) or (
            name in TO_DEVICE and _from_host(name, args, kwargs)
        ):
            self.report(name)
        self.filling = name == "__setitem__" and isinstance(args[2], Number)
        try:
            return function(*args, **kwargs)
        finally:
            self.filling = False


class _Operators(TorchDispatchMode):
    """Dispatch mode that reports operators, also those of the backward pass."""

    def __init__(self, report: Callable[[str], None], calls: _Calls) -> None:
        super().__init__()
        self.report, self.calls = report, calls

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(function.overloadpacket)
        if self._waits(name, args, kwargs):
            self.report(name)
        return function(*args, **kwargs)

    def _waits(self, name: str, args: Any, kwargs: Any) -> bool:
        if name in WAITING:
            return any(map(_on_device, tree_leaves(args)))
        if name == "aten.repeat_interleave":
            return kwargs.get("output_size") is None and any(map(_on_device, args))
        if name == "aten.index" or name.startswith(("aten.index_put", "aten._index_put")):
            return not self.calls.filling and any(map(_is_mask, args[1]))
        if name in ("aten._to_copy", "aten.copy_"):
            return _copies(name, args, kwargs)
        return False


def _on_device(value: Any) -> bool:
    """Return True for a tensor on the GPU, or for any tensor on a machine without one."""
    return isinstance(value, Tensor) and (value.is_cuda or not torch.cuda.is_available())


def _is_mask(index: Any) -> bool:
    return _on_device(index) and index.dtype in (torch.bool, torch.uint8)


def _from_host(name: str, args: Any, kwargs: Any) -> bool:
    """Return True if numbers of Python are copied to a device, for which the host waits."""
    data = args[1] if name == "new_tensor" else args[0] if args else kwargs.get("data")
    if isinstance(data, Tensor):
        return False
    if name == "new_tensor":
        return _on_device(args[0])
    device = kwargs.get("device")
    if device is None:
        return False
    return torch.device(device).type == "cuda" or not torch.cuda.is_available()


def _copies(name: str, args: Any, kwargs: Any) -> bool:
    """Return True if the host waits for a copy between two devices."""
    if name == "aten.copy_":
        target, source = args[0].device, args[1]
        waits = not (len(args) > 2 and args[2]) and not kwargs.get("non_blocking")
    else:
        target, source = torch.device(kwargs.get("device") or args[0].device), args[0]
        waits = not kwargs.get("non_blocking")
    return (
        waits and source.device.type != target.type and "cuda" in (source.device.type, target.type)
    )
