"""Terms of a method in a study (``rm+pfi``): their names, checked settings and requirements."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kd import methods
from kd.common.errors import UserError, suggest
from kd.config.library import Library
from kd.config.parts import Detector
from kd.methods.base import Method
from kd.methods.ops.levels import shared_levels
from kd.observers.heads import (
    DENSE_HEADS,
    EQUAL_SETTINGS,
    ROI_HEADS,
    SHARED,
    head_types,
)

Terms = dict[str, dict[str, Any]]


def resolve(
    name: str, overrides: dict[str, dict[str, Any]], detector: str, library: Library, where: str
) -> Terms:
    """Return ``{term: {"method": ..., "version": ..., settings...}}`` for a name like ``rm+pfi``.

    The defaults of a method may differ for a ``detector`` with two stages.
    """
    terms = name.split("+")
    if len(set(terms)) != len(terms):
        raise UserError(f"{where}: method '{name}' names a term twice; name each once")
    two_stage = "roi_head" in library.detector(detector, where).model
    settings = {
        term: settings_of(term, overrides.get(term, {}), two_stage, library, where)
        for term in terms
    }
    used = [term_settings["method"] for term_settings in settings.values()]
    if len(set(used)) != len(used):
        repeated = max(used, key=used.count)
        raise UserError(f"{where}: method '{name}' has two variants of '{repeated}'; name one")
    return settings


def check_overrides(overrides: dict[str, Any], names: list[str], where: str) -> None:
    """Raise UserError if there are settings for a method that no row uses."""
    used = {term for name in names for term in name.split("+")}
    for term in overrides:
        if term not in used:
            raise UserError(
                f"{where}: settings for '{term}', which no row uses; {suggest(term, used)}"
            )


def teachers(terms: Terms) -> set[str]:
    """Return the kinds of teacher that the terms learn from: ``detector``, ``classifier``."""
    kinds = (method_of(settings).needs.teacher for settings in terms.values())
    return {kind for kind in kinds if kind}


def check_readable(
    terms: Terms, student: str, teacher: str | None, library: Library, where: str
) -> None:
    """Raise UserError if a pair of detectors lacks an output that a method reads."""
    for term, settings in terms.items():
        for reason in refusals(method_of(settings), student, teacher, library, where):
            raise UserError(
                f"{where}: method '{term}' {reason}; `kd methods {term}` lists its detectors"
            )


def refusals(
    method: Method, student: str, teacher: str | None, library: Library, where: str
) -> Iterator[str]:
    """Yield the reasons why a method does not apply to a student and its teacher's detector."""
    needs = method.needs
    if method.start == "inherit" and needs.teacher != "detector":
        yield "has 'start: inherit', but its teacher is no detector; set 'start: own'"
        return
    student_part = library.detector(student, where)
    missing = (needs.both | needs.student) - student_part.offered
    if missing:
        yield _missing(missing, student, student_part)
        return
    if needs.teacher != "detector" or teacher is None:
        return
    teacher_part = library.detector(teacher, where)
    if missing := needs.of_teacher - teacher_part.offered:
        yield _missing(missing, teacher, teacher_part)
        return
    yield from _unequal(needs.both, student_part, teacher_part)
    student_layout, teacher_layout = (
        _layout(name, part) for name, part in ((student, student_part), (teacher, teacher_part))
    )
    if student_layout == teacher_layout:
        return
    if missing := needs.both - teacher_part.offered:
        yield _missing(missing, teacher, teacher_part)
    elif needs.both - SHARED:
        yield (
            f"compares {_in_words(needs.both - SHARED)} row for row, "
            f"which '{teacher}' and '{student}' do not share"
        )
    elif "stages" in needs.both and student_part.maps != teacher_part.maps:
        yield (
            f"compares the backbone's maps, of which '{student}' and '{teacher}' do not read the "
            "same"
        )
    elif "neck" not in needs.both or student_layout.strides == teacher_layout.strides:
        return
    elif not method.across_pyramids:
        yield (
            f"compares neck maps, but '{student}' has strides {_in_words(student_layout.strides)} "
            f"and '{teacher}' {_in_words(teacher_layout.strides)}"
        )
    elif not shared_levels(student_layout.strides, teacher_layout.strides):
        yield (
            f"compares neck maps of equal strides, but '{student}' has "
            f"{_in_words(student_layout.strides)} and '{teacher}' "
            f"{_in_words(teacher_layout.strides)}"
        )


def _unequal(features: frozenset[str], student: Detector, teacher: Detector) -> Iterator[str]:
    """Yield a reason for each setting of the heads that must be equal and is not."""
    student_head, teacher_head = (
        part.model.get("rpn_head") or part.model.get("bbox_head") or {}
        for part in (student, teacher)
    )
    for feature in sorted(features):
        for key in EQUAL_SETTINGS.get(feature, ()):
            values = student_head.get(key), teacher_head.get(key)
            if values[0] != values[1]:
                yield (
                    f"reads {feature} of both heads, whose '{key}' must be equal; the student's "
                    f"is {values[0]} and the teacher's {values[1]}"
                )


def _missing(outputs: frozenset[str], detector: str, part: Detector) -> str:
    """Return the reason that a detector lacks outputs, with the known heads if its own is not."""
    text = f"reads {_in_words(outputs)}, which detector '{detector}' does not offer"
    if part.observed_by != "maps":
        return text
    types = " and ".join(filter(None, head_types(part.model)))
    readable = ", ".join([*DENSE_HEADS, *(f"{name} behind RPNHead" for name in ROI_HEADS)])
    return (
        f"{text}: methods read only the neck's and backbone's maps of a detector with {types}; "
        f"they read predictions of {readable}, or of a head whose file declares its 'observer'"
    )


def method_names(library: Library) -> list[str]:
    """Return the names that a study may use: methods, and presets of ``configs/presets``."""
    return sorted({*methods.names(), *library.presets})


def settings_of(
    term: str, overrides: dict[str, Any], two_stage: bool, library: Library, where: str
) -> dict[str, Any]:
    """Return the checked settings of a method or preset, and its ``method``."""
    preset = library.presets.get(term)
    if preset:
        name = preset.method
        methods.get(name).parse(preset.settings, f"{preset.file}: preset '{term}': settings")
        overrides = {**preset.settings, **overrides}
    elif term in methods.names():
        name = term
    else:
        raise UserError(f"{where}: no method '{term}'; {suggest(term, method_names(library))}")
    overrides = {**methods.get(name).defaults(two_stage), **overrides}
    settings = methods.get(name).parse(overrides, f"{where}: settings of '{term}'")
    version = methods.get(name).version
    return {"method": name, "version": version, **settings.model_dump(mode="json")}


def method_of(settings: dict[str, Any]) -> Method:
    """Return the method with checked settings.

    UserError if they are of another version of the method, whose losses are no longer computed.
    """
    name, version = settings["method"], settings.get("version")
    method = methods.get(name)
    if version != method.version:
        raise UserError(
            f"version {version} of method '{name}' was replaced by version {method.version}; "
            "compose the run again (`snakemake` does, or `kd compose STUDY --write`)"
        )
    values = {key: value for key, value in settings.items() if key not in ("method", "version")}
    return method.model_validate(values)


class _Layout(NamedTuple):
    """Places of a detector's predictions; two detectors of one layout have the same priors."""

    observer: str
    strides: list[int]
    priors: dict[str, Any]


def _layout(name: str, part: Detector) -> _Layout:
    head = part.model.get("rpn_head") or part.model.get("bbox_head") or {}
    priors = head.get("anchor_generator", {})
    strides = (
        priors.get("strides") or head.get("strides") or head.get("point_strides") or part.strides
    )
    if not strides:
        raise UserError(
            f"configs/detectors/{name}.yaml: the head has no strides, which methods need to "
            "compare maps; set its 'strides', those of its 'anchor_generator', or the key 'strides'"
        )
    return _Layout(part.observed_by, strides, priors)


def _in_words(values: Any) -> str:
    ordered = values if isinstance(values, list) else sorted(values)
    return " and ".join(map(str, ordered))
