"""The teacher's share of the bound: what a step asked of its teachers, again and nothing else."""

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
from kd.profiling.parts import Asked, teacher_calls


@dataclass(frozen=True)
class Call:
    """One call of a part of a teacher, with what it was given."""

    part: str
    function: Callable[..., Any]
    args: Any
    kwargs: Any
    autocast: torch.dtype | None
    """The type of mixed precision, if it was made in any."""

    def __call__(self) -> None:
        with torch.autocast(_device(), self.autocast, enabled=self.autocast is not None):
            self.function(*self.args, **self.kwargs)


@dataclass
class Replay:
    """What a step asked of its teachers: calling it makes the same calls without gradients.

    Backbone and neck as such; of a head its layers one by one, so that what is left out of a head,
    for a method needs one branch only, is not in it. What a head does between them is not, either.
    """

    calls: list[Call] = field(default_factory=list)
    read_bytes: int = 0
    """Of the teachers' outputs, those that were read by anything but the teachers."""

    def __call__(self) -> None:
        with torch.no_grad():
            for call in self.calls:
                call()


@contextmanager
def recording(model: Any) -> Iterator[Replay]:
    """Collect what a block asks of a distiller's teachers, all of which it has to ask them."""
    replay, reads = Replay(), _Reads()

    def recorded(asked: Asked) -> Callable[[Any], Any]:
        def wrap(function: Any) -> Any:
            # A module is called as such, so that one that is compiled is replayed compiled.
            target = asked.owner if asked.name == "forward" else function

            def call(*args: Any, **kwargs: Any) -> Any:
                outermost = not asked.head and not reads.layers
                with reads.teacher(layer=not asked.head) as outputs:
                    if outermost:
                        replay.calls.append(_call(asked.part, target, args, kwargs))
                    outputs.append(function(*args, **kwargs))
                return outputs[0]

            return call

        return wrap

    with ExitStack() as stack:
        stack.enter_context(_without_cache(model))
        for asked in teacher_calls(model):
            stack.enter_context(wrapped(asked.owner, asked.name, recorded(asked)))
        stack.enter_context(reads)
        yield replay
    replay.read_bytes = sum(reads.read.values())


@contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """Have the teachers asked where their answers are kept, too."""
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
    """Sees which of the teachers' outputs an operator outside the teachers takes."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = 0
        """How many calls of teachers are open."""
        self.layers = 0
        """How many of these are no whole heads."""
        self.kept: list[Any] = []
        """Outputs, so that no storage takes another's place."""
        self.made: set[int] = set()
        self.read: dict[int, int] = {}

    @contextmanager
    def teacher(self, layer: bool) -> Iterator[list[Any]]:
        """Take what a block, a call of a teacher, puts into a list for its output."""
        self.inside += 1
        self.layers += layer
        outputs: list[Any] = []
        try:
            yield outputs
        finally:
            self.inside -= 1
            self.layers -= layer
        if not self.inside:
            self.kept.append(outputs)
            self.made.update(map(_storage, _tensors(outputs)))

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not self.inside:
            for tensor in _tensors((args, kwargs)):
                if _storage(tensor) in self.made:
                    self.read[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return function(*args, **(kwargs or {}))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
