"""Pretended GPU: tensors of device ``meta`` that hold values and compute them on the CPU.

A step on it fails where one on a GPU would: at an operator whose tensors are on both devices, and
at ``.numpy()``. Unlike torch's fake tensors these have values, so ``nonzero`` and ``item`` work.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.structures import instance_data
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = "meta"
"""Type of the device: one that torch knows without a driver."""
FROM_HOST = ("tensor", "as_tensor", "new_tensor")
BOTH = ("aten.copy_", "aten._to_copy", "aten.index", "aten.index_put", "aten.index_put_")
"""Operators that accept tensors of both devices: copies, and a GPU's tensor with a host's index."""


class _OnDevice(Tensor):
    """Tensor of the pretended GPU around one of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "_OnDevice":
        tensor: Any = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


class _Calls(TorchFunctionMode):
    """Function mode that copies numbers of Python, which torch leaves out for device ``meta``."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(function, "__name__", "")
        if name == "tolist":  # torch has none for subclasses
            return _inner(args[0]).tolist()
        if name in ("__getitem__", "__setitem__"):  # a list as an index is copied to the GPU
            index = tree_map(_as_tensor, args[1], is_leaf=lambda part: isinstance(part, list))
            return function(args[0], index, *args[2:])
        if name not in FROM_HOST:
            return function(*args, **kwargs)
        device = kwargs.pop("device", None)
        if name == "new_tensor":
            device = device or args[0].device
            kwargs.setdefault("dtype", args[0].dtype)
            args = args[1:]
        source = args[0] if args else kwargs.get("data")
        if isinstance(source, Tensor):
            return source.to(device or source.device, kwargs.get("dtype"))
        values = torch.tensor(*args, **kwargs)
        return values if device is None else values.to(device)


def _compute(function: Any, args: Any, kwargs: Any) -> Any:
    """Run an operator on the CPU; its result is on the device of its arguments."""
    name = str(function.overloadpacket)
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    pretended = [tensor for tensor in tensors if isinstance(tensor, _OnDevice)]
    on_host = [tensor for tensor in tensors if not isinstance(tensor, _OnDevice) and tensor.dim()]
    if pretended and on_host and name not in BOTH:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in on_host)
        raise AssertionError(f"{name}: the GPU's tensors with tensors of the host: {shapes}")
    target = kwargs.get("device")
    is_result_pretended = bool(pretended) if target is None else torch.device(target).type == DEVICE
    if name in ("aten.copy_", "aten.index", "aten.index_put", "aten.index_put_"):
        is_result_pretended = isinstance(args[0], _OnDevice)
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
    result = function(*inner_args, **inner_kwargs)
    if not is_result_pretended:
        return result
    wrapped = tree_map(lambda leaf: _OnDevice(leaf) if isinstance(leaf, Tensor) else leaf, result)
    return return_and_correct_aliasing(function, args, kwargs, wrapped) if pretended else wrapped


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _OnDevice) else value


class _OfType(type):
    """Class of all tensors of one dtype; torch.BoolTensor has only those of the CPU."""

    dtype: torch.dtype

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, Tensor) and value.dtype == cls.dtype


_Bool = _OfType("_Bool", (), {"dtype": torch.bool})
_Long = _OfType("_Long", (), {"dtype": torch.long})


def _as_tensor(part: Any) -> Any:
    if not isinstance(part, list):
        return part
    return torch.tensor(part) if part else torch.zeros(0, dtype=torch.long)


def _real(device: str) -> str:
    return "cpu" if device == DEVICE else device


@contextmanager
def pretended_gpu(patch: Any) -> Iterator[str]:
    """Pretend in a block that there is a GPU; yield its device for ``.to``.

    ``patch``: pytest's monkeypatch. Torch has no autocast and no generator for the
    device: the first is left out, the second is one of the CPU.
    """
    autocast, dtype, enabled = torch.autocast, torch.get_autocast_dtype, torch.is_autocast_enabled

    def without_autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if device_type == DEVICE else autocast(device_type, *args, **kwargs)

    patch.setattr(torch, "autocast", without_autocast)
    patch.setattr(torch, "get_autocast_dtype", lambda device: dtype(_real(device)))
    patch.setattr(torch, "is_autocast_enabled", lambda device="cpu": enabled(_real(device)))
    of_bool, of_long = SimpleNamespace(__args__=(_Bool,)), SimpleNamespace(__args__=(_Long,))
    every = (*instance_data.IndexType.__args__, _Bool, _Long)
    patch.setattr(instance_data, "BoolTypeTensor", of_bool)
    patch.setattr(instance_data, "LongTypeTensor", of_long)
    patch.setattr(instance_data, "IndexType", SimpleNamespace(__args__=every))
    generator = torch.Generator
    patch.setattr(torch, "Generator", lambda device=DEVICE: generator("cpu"))
    with _Calls(), _Operators():
        yield DEVICE
