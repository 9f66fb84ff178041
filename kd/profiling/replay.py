"""Replay of what a step's methods compute in the networks, which belongs to the step's bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from kd.observers.recording import wrapped
from kd.profiling.parts import (
    TERM,
    TeacherFunction,
    student_modules,
    student_of,
    teacher_calls,
    wrapped_terms,
)


@dataclass(frozen=True)
class Call:
    """Call of a part of a teacher or, inside a term, of the student, with its arguments."""

    part: str
    function: Callable[..., Any]
    args: Any
    kwargs: Any
    autocast: torch.dtype | None
    """Type of the mixed precision in which the call was recorded; None without."""
    gradients: bool
    """True if the step needs the gradient of the call, because an argument or a weight has one."""

    def __call__(self, gradients: bool) -> None:
        """Repeat the call; with ``gradients``, also its backward pass if the step needs it."""
        with torch.autocast(_device(), self.autocast, enabled=self.autocast is not None):
            if gradients and self.gradients:
                self._forward_and_backward()
            else:
                with torch.no_grad():
                    self.function(*self.args, **self.kwargs)

    def _forward_and_backward(self) -> None:
        with torch.enable_grad():
            args, kwargs = tree_map(_leaf, (self.args, self.kwargs))
            outputs = [t for t in _tensors(self.function(*args, **kwargs)) if t.requires_grad]
        sources = [t for t in _tensors((args, kwargs)) if t.requires_grad]
        weights = self.function.parameters() if isinstance(self.function, nn.Module) else ()
        sources += [weight for weight in weights if weight.requires_grad]
        seeds = [output.new_ones(()).expand_as(output) for output in outputs]
        torch.autograd.grad(outputs, sources, seeds, allow_unused=True)


@dataclass
class Replay:
    """Recorded calls of a step's teachers, and of its student inside terms; calling repeats them.

    Backbone, neck and classifier are recorded whole, a head layer by layer. The replay therefore
    has only the branch of a head that a method runs, and no operators between a head's layers.
    """

    calls: list[Call] = field(default_factory=list)
    read_bytes: int = 0
    """Bytes of the teachers' outputs that were read outside of the teachers."""

    def __call__(self, gradients: bool = True) -> None:
        """Repeat all calls, with the backward pass of those whose gradient the step needs."""
        for call in self.calls:
            call(gradients)

    @property
    def gradients(self) -> bool:
        """True if the step needs the gradient of a call."""
        return any(call.gradients for call in self.calls)


@contextmanager
def recording(model: Any) -> Iterator[Replay]:
    """Record the calls of a distiller's teachers in a block, without a teacher cache.

    Calls of the student are recorded inside terms, where a method makes it compute more.
    """
    replay, reads = Replay(), _Reads()

    def recorder(called: TeacherFunction) -> Callable[[Any], Any]:
        def wrap(function: Any) -> Any:
            # The module itself is called, so that the replay of a compiled module is compiled.
            target = called.owner if called.name == "forward" else function

            def call(*args: Any, **kwargs: Any) -> Any:
                outermost = not called.head and not reads.layers
                with reads.teacher(layer=not called.head) as outputs:
                    if outermost:
                        replay.calls.append(_call(called.part, target, args, kwargs))
                    outputs.append(function(*args, **kwargs))
                return outputs[0]

            return call

        return wrap

    with ExitStack() as stack:
        stack.enter_context(_without_cache(model))
        for called in teacher_calls(model):
            stack.enter_context(wrapped(called.owner, called.name, recorder(called)))
        _record_student(model, replay, stack)
        stack.enter_context(reads)
        yield replay
    replay.read_bytes = sum(reads.read.values())


def _record_student(model: Any, replay: Replay, stack: ExitStack) -> None:
    """Record the outermost calls of the student's modules inside terms, while ``stack`` is open."""
    inside: list[str] = []
    """The open term, and the calls of the student that are open in it."""

    def opening(name: str) -> Callable[[Any], Any]:
        def wrap(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                inside.append(name)
                try:
                    return function(*args, **kwargs)
                finally:
                    inside.pop()

            return call

        return wrap

    def recorder(module: nn.Module) -> Callable[[Any], Any]:
        def wrap(function: Any) -> Any:
            opened = opening("call")(function)

            def call(*args: Any, **kwargs: Any) -> Any:
                if len(inside) == 1:
                    replay.calls.append(_call(TERM + inside[0], module, args, kwargs))
                return (opened if inside else function)(*args, **kwargs)

            return call

        return wrap

    for _, module in student_modules(student_of(model)):
        stack.enter_context(wrapped(module, "forward", recorder(module)))
    stack.enter_context(wrapped_terms(model, opening))


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
    weights = function.parameters() if isinstance(function, nn.Module) else ()
    sources = [*_tensors((args, kwargs)), *weights]
    gradients = torch.is_grad_enabled() and any(source.requires_grad for source in sources)
    args, kwargs = tree_map(_leaf, (args, kwargs))
    return Call(part, function, args, kwargs, dtype, gradients)


def _leaf(value: Any) -> Any:
    """Return a tensor without its graph, with a gradient if it had one; other values as is."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().requires_grad_(value.requires_grad)


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
