"""Parts of a training step, and the functions of a model that each consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import nn

from kd.observers.recording import wrapped
from kd.profiling.clock import Clock

DATA = "data"
PREPROCESSING = "preprocessing"
STUDENT = "student "
ASSIGNMENT = "label assignment"
LOSS = "student loss"
PROPOSALS = "student proposals"
TEACHER = "teacher "
TERM = "KD "
BACKWARD = "backward"
OPTIMIZER = "optimizer"
OTHER = "other"
PARTS = (
    DATA, PREPROCESSING, "student backbone", "student neck", "student head", PROPOSALS, ASSIGNMENT,
    LOSS, "teacher backbone", "teacher neck", "teacher head", "teacher proposals",
    "teacher classifier", TERM, BACKWARD, OPTIMIZER, OTHER,
)  # fmt: skip
"""Parts in the order of a step; ``KD`` is the place of all distillation terms."""


def in_order(parts: Any) -> list[str]:
    """Return names of parts in the order of a step."""

    def place(part: str) -> int:
        name = TERM if part.startswith(TERM) else part
        return PARTS.index(name if name in PARTS else "student head")

    return sorted(parts, key=place)


def student_of(model: Any) -> Any:
    """Return the detector that is trained: a distiller's student, otherwise the model."""
    return getattr(model, "student", model)


def teachers_of(model: Any) -> dict[str, Any]:
    """Return the frozen teachers of a distiller by kind; none for another model."""
    return getattr(model, "_teachers", {})


@contextmanager
def charged(model: Any, optimizer: Any, clock: Clock) -> Iterator[None]:
    """Charge the steps of a block to the parts of a model."""
    with ExitStack() as stack:

        def charge(owner: Any, name: str, part: str, unless: Callable[[str], bool]) -> None:
            stack.enter_context(wrapped(owner, name, clock.charged(part, unless)))

        charge(model.data_preprocessor, "forward", PREPROCESSING, _never)
        _charge_student(student_of(model), charge)
        for owner, name, part, _ in teacher_calls(model):
            charge(owner, name, part, lambda open_: open_.startswith(TEACHER))
        if hasattr(model, "terms"):
            stack.enter_context(
                wrapped_terms(model, lambda name: clock.charged(TERM + name, _never))
            )
        charge(optimizer, "backward", BACKWARD, _never)
        for name in ("step", "zero_grad"):
            charge(optimizer, name, OPTIMIZER, _never)
        yield


class TeacherFunction(NamedTuple):
    """Function of a teacher that a step may call, alone or inside another one."""

    owner: Any
    name: str
    part: str
    head: bool
    """True for a whole head, if a method may run one of its branches alone."""


def teacher_calls(model: Any) -> Iterator[TeacherFunction]:
    """Yield all functions of a distiller's teachers that a step may call."""
    for kind, teacher in teachers_of(model).items():
        if kind == "classifier":
            for name in ("logits", "stages"):
                yield TeacherFunction(teacher, name, TEACHER + kind, False)
            continue
        for path, module in teacher.named_modules():
            if path:
                head = path.rstrip(".0123456789").endswith("head")
                yield TeacherFunction(module, "forward", TEACHER + _section(path), head)
        if hasattr(teacher, "rpn_head"):
            yield TeacherFunction(teacher.rpn_head, "predict_by_feat", TEACHER + "proposals", False)


def student_modules(detector: Any) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a detector with their paths, but not its preprocessor and losses."""
    for path, module in detector.named_modules():
        if path and not path.startswith("data_preprocessor") and ".loss_" not in f".{path}":
            yield path, module


def _charge_student(detector: Any, charge: Callable[..., None]) -> None:
    """Charge a detector; calls from a term of distillation stay in the term."""
    for path, module in student_modules(detector):
        part = STUDENT + _section(path)
        charge(module, "forward", part, lambda open_, same=part: _in_term(open_) or open_ == same)
        for name, part in (
            ("loss_by_feat", LOSS),
            ("loss_and_target", LOSS),
            ("get_targets", ASSIGNMENT),
            ("predict_by_feat", PROPOSALS),
        ):
            if hasattr(module, name):
                charge(module, name, part, _in_term)
    region_head = getattr(detector, "roi_head", None)
    if region_head is not None:
        charge(region_head, "loss", LOSS, _in_term)
        for name, method in (("bbox_assigner", "assign"), ("bbox_sampler", "sample")):
            for stage in _several(getattr(region_head, name)):
                charge(stage, method, ASSIGNMENT, _in_term)


@contextmanager
def wrapped_terms(distiller: Any, wrap: Callable[[str], Callable[[Any], Any]]) -> Iterator[None]:
    """Wrap the ``losses`` of each term by ``wrap(name)`` in a block.

    The methods are replaced, because they are frozen.
    """
    terms = distiller.terms
    distiller.terms = {name: _WrappedTerm(term, wrap(name)) for name, term in terms.items()}
    try:
        yield
    finally:
        distiller.terms = terms


class _WrappedTerm:
    """Replacement of a method that calls its losses through a wrapper."""

    def __init__(self, term: Any, wrap: Callable[[Any], Any]) -> None:
        self._term = term
        self.losses = wrap(term.losses)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._term, name)


def _section(path: str) -> str:
    first = path.split(".", 1)[0]
    return "head" if first.endswith("head") else first


def _several(one_or_more: Any) -> list[Any]:
    return list(one_or_more) if isinstance(one_or_more, list | nn.ModuleList) else [one_or_more]


def _in_term(part: str) -> bool:
    return part.startswith(TERM)


def _never(part: str) -> bool:
    return False
