"""Replay of a step's calls of its teachers, which is the teacher's share of the bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from kd.observers.recording import wrapped
from kd.profiling.parts import TeacherFunction, teacher_calls


@dataclass(frozen=True)
class Call:
    """Call of a part of a teacher with its arguments."""

    part: str
    function: Callable[..., Any]
    args: Any
    kwargs: Any
    autocast: torch.dtype | None
    """Type of the mixed precision in which the call was recorded; None without."""

    def __call__(self) -> None:
        with torch.autocast(_device(), self.autocast, enabled=self.autocast is not None):
            self.function(*self.args, **self.kwargs)


@dataclass
class Replay:
    """Recorded calls of a step's teachers; calling it repeats them without gradients.

    Backbone and neck are recorded whole, a head layer by layer. The replay therefore has only the
    branch of a head that a method runs, and no operators between a head's layers.
    """

    calls: list[Call] = field(default_factory=list)
    read_bytes: int = 0
    """Bytes of the teachers' outputs that were read outside of the teachers."""

    def __call__(self) -> None:
        with torch.no_grad():
            for call in self.calls:
                call()


@contextmanager
def recording(model: Any) -> Iterator[Replay]:
    """Record the calls of a distiller's teachers in a block, without a teacher cache."""
    replay, reads = Replay(), _Reads()

    def recorder(teacher_function: TeacherFunction) -> Callable[[Any], Any]:
        def wrap(function: Any) -> Any:
            # The module itself is called, so that the replay of a compiled module is compiled.
            target = teacher_function.owner if teacher_function.name == "forward" else function

            def call(*args: Any, **kwargs: Any) -> Any:
                outermost = not teacher_function.head and not reads.layers
                with reads.teacher(layer=not teacher_function.head) as outputs:
                    if outermost:
                        replay.calls.append(_call(teacher_function.part, target, args, kwargs))
                    outputs.append(function(*args, **kwargs))
                return outputs[0]

            return call

        return wrap

    with ExitStack() as stack:
        stack.enter_context(_without_cache(model))
        for teacher_function in teacher_calls(model):
            stack.enter_context(
                wrapped(teacher_function.owner, teacher_function.name, recorder(teacher_function))
            )
        stack.enter_context(reads)
        yield replay
    replay.read_bytes = sum(reads.read.values())


@contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """Detach the teacher cache from a model for a block."""
    cache = getattr(model, "teacher_cache", None)
    if cache is not None:
        model.teacher_cache = None
    try:
        yield
    finally:
        if cache is not None:
            model.teacher_cache = cache


def _call(part: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Call:
    kind = _device()
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    detached = tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, args)
    return Call(part, function, detached, kwargs, dtype)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


class _Reads(TorchDispatchMode):
    """Dispatch mode that records the teachers' outputs that other operators read."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        """Number of open calls of teachers."""
        self.layers = 0
        """Number of these that are not whole heads."""
        self.outputs: list[Any] = []
        """Outputs, referenced so that no new storage gets the address of an old one."""
        self.storages: set[int] = set()
        self.read: dict[int, int] = {}

    @contextmanager
    def teacher(self, layer: bool) -> Iterator[list[Any]]:
        """Record the outputs that a block, a call of a teacher, appends to the list."""
        self.inside += 1
        self.layers += layer
        outputs: list[Any] = []
        try:
            yield outputs
        finally:
            self.inside -= 1
            self.layers -= layer
        if not self.inside:
            self.outputs.append(outputs)
            self.storages.update(map(_storage, _tensors(outputs)))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not self.inside:
            for tensor in _tensors((args, kwargs)):
                if _storage(tensor) in self.storages:
                    self.read[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return function(*args, **(kwargs or {}))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
