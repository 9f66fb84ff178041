"""The parts of a training step, and where in a model each begins and ends."""

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
OPTIMISER = "optimiser"
OTHER = "other"
PARTS = (
    DATA, PREPROCESSING, "student backbone", "student neck", "student head", PROPOSALS, ASSIGNMENT,
    LOSS, "teacher backbone", "teacher neck", "teacher head", "teacher proposals",
    "teacher classifier", TERM, BACKWARD, OPTIMISER, OTHER,
)  # fmt: skip
"""In the order of a step; the terms of distillation follow one another where ``KD`` stands."""


def in_order(parts: Any) -> list[str]:
    """Return names of parts in the order of a step."""

    def place(part: str) -> int:
        known = TERM if part.startswith(TERM) else part
        return PARTS.index(known if known in PARTS else "student head")

    return sorted(parts, key=place)


def student_of(model: Any) -> Any:
    """Return the detector that is trained: the student of a distiller, or the model itself."""
    return getattr(model, "student", model)


def teachers_of(model: Any) -> dict[str, Any]:
    """Return the frozen teachers of a distiller by kind; of any other model none."""
    return getattr(model, "_teachers", {})


@contextmanager
def charged(model: Any, optimiser: Any, clock: Clock) -> Iterator[None]:
    """Charge the steps of a block to the parts of a model."""
    with ExitStack() as stack:

        def charge(owner: Any, name: str, part: str, unless: Callable[[str], bool]) -> None:
            stack.enter_context(wrapped(owner, name, clock.charged(part, unless)))

        charge(model.data_preprocessor, "forward", PREPROCESSING, _never)
        _charge_student(student_of(model), charge)
        for owner, name, part, _ in teacher_calls(model):
            charge(owner, name, part, lambda open_: open_.startswith(TEACHER))
        if hasattr(model, "terms"):
            stack.enter_context(_charged_terms(model, clock))
        charge(optimiser, "backward", BACKWARD, _never)
        for name in ("step", "zero_grad"):
            charge(optimiser, name, OPTIMISER, _never)
        yield


class Asked(NamedTuple):
    """A function of a teacher that may be called, alone or in another one."""

    owner: Any
    name: str
    part: str
    head: bool
    """Whether it is a whole head, of which a method may run a branch alone."""


def teacher_calls(model: Any) -> Iterator[Asked]:
    """Yield everything that a distiller's teachers may be asked for, and its part."""
    for kind, teacher in teachers_of(model).items():
        for path, module in teacher.named_modules():
            if path:
                part = "classifier" if kind == "classifier" else _section(path)
                head = path.rstrip(".0123456789").endswith("head")
                yield Asked(module, "forward", TEACHER + part, head)
        if hasattr(teacher, "rpn_head"):
            yield Asked(teacher.rpn_head, "predict_by_feat", TEACHER + "proposals", False)


def _charge_student(detector: Any, charge: Callable[..., None]) -> None:
    """Charge a detector; what a term of distillation has it do again stays in the term."""
    for path, module in detector.named_modules():
        if not path or path.startswith("data_preprocessor") or ".loss_" in f".{path}":
            continue
        part = STUDENT + _section(path)
        charge(module, "forward", part, lambda open_, own=part: _in_term(open_) or open_ == own)
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
            for each in _several(getattr(region_head, name)):
                charge(each, method, ASSIGNMENT, _in_term)


@contextmanager
def _charged_terms(distiller: Any, clock: Clock) -> Iterator[None]:
    """Charge each term of distillation, through one that stands for it: settings are frozen."""
    terms = distiller.terms
    distiller.terms = {name: _Charged(term, name, clock) for name, term in terms.items()}
    try:
        yield
    finally:
        distiller.terms = terms


class _Charged:
    """Stands for a method whose losses are charged to its term."""

    def __init__(self, term: Any, name: str, clock: Clock) -> None:
        self._term = term
        self.losses = clock.charged(TERM + name, _never)(term.losses)

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
