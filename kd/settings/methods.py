"""From a method's name in a study (``rm+pfi``) to checked settings of each of its terms."""

from collections.abc import Iterator
from typing import Any

from kd import methods
from kd.errors import UserError, suggest
from kd.methods.base import Method
from kd.observation import OBSERVABLE, SHARED, TWO_STAGE
from kd.settings.library import Library
from kd.settings.parts import Detector

Terms = dict[str, dict[str, Any]]


def resolve(
    name: str, overrides: dict[str, dict[str, Any]], detector: str, library: Library, where: str
) -> Terms:
    """Return ``{term: {"method": ..., settings...}}`` for a name such as ``rm+pfi``.

    A method may have other defaults for a ``detector`` of two stages.
    """
    terms = name.split("+")
    if len(set(terms)) != len(terms):
        raise UserError(f"{where}: method '{name}' names a term twice")
    two_stage = observer(detector, library, where) in TWO_STAGE
    settings = {
        term: _settings(term, overrides.get(term, {}), two_stage, library, where) for term in terms
    }
    used = [each["method"] for each in settings.values()]
    if len(set(used)) != len(used):
        twice = max(used, key=used.count)
        raise UserError(f"{where}: method '{name}' uses '{twice}' twice, under two names")
    return settings


def check_overrides(overrides: dict[str, Any], names: list[str], where: str) -> None:
    """Refuse settings for a method that no row uses."""
    used = {term for name in names for term in name.split("+")}
    for term in overrides:
        if term not in used:
            raise UserError(
                f"{where}: settings for '{term}', which no row uses; {suggest(term, used)}"
            )


def teachers(terms: Terms) -> set[str]:
    """Return which kinds of teacher the terms learn from: ``detector``, ``classifier``."""
    return {kind for kind in (_method(each).needs.teacher for each in terms.values()) if kind}


def check_readable(
    terms: Terms, student: str, teacher: str | None, library: Library, where: str
) -> None:
    """Refuse a pair of detectors that does not offer what a method reads."""
    for term, settings in terms.items():
        for reason in refusals(_method(settings), student, teacher, library, where):
            raise UserError(f"{where}: method '{term}' {reason}")


def refusals(
    method: Method, student: str, teacher: str | None, library: Library, where: str
) -> Iterator[str]:
    """Yield the reasons why a method does not apply to a student and its teacher's detector."""
    needs = method.needs
    lacking = (needs.both | needs.student) - OBSERVABLE[observer(student, library, where)]
    if lacking:
        yield f"reads {_listed(lacking)}, which detector '{student}' does not offer"
        return
    if needs.teacher != "detector" or teacher is None or teacher == student:
        return
    offered = OBSERVABLE[observer(teacher, library, where)]
    if needs.both - offered:
        yield f"reads {_listed(needs.both - offered)}, which detector '{teacher}' does not offer"
    elif needs.both - SHARED:
        yield (
            f"compares {_listed(needs.both - SHARED)} row for row, "
            f"which '{teacher}' and '{student}' do not share"
        )
    else:
        levels = [_strides(library.detector(name, where)) for name in (student, teacher)]
        if "neck" in needs.both and levels[0] != levels[1]:
            yield (
                f"compares neck maps, but '{student}' has strides {_listed(levels[0])} "
                f"and '{teacher}' {_listed(levels[1])}"
            )


def observer(detector: str, library: Library, where: str) -> str:
    """Return a detector's key in OBSERVABLE; UserError where it names another."""
    found = library.detector(detector, where).observer
    if found not in OBSERVABLE:
        raise UserError(
            f"configs/detectors/{detector}.yaml: key 'observer': no observer '{found}'; "
            f"{suggest(found, OBSERVABLE)}"
        )
    return found


def known(library: Library) -> list[str]:
    """Return every name that a study may use: methods, and presets of ``configs/methods``."""
    return sorted({*methods.names(), *library.names("methods")})


def matrix(library: Library) -> dict[str, dict[str, str]]:
    """Return, for every method and detector, why the method is refused, or nothing.

    Teacher and student have the same detector, and the method its default settings.
    """
    detectors = library.names("detectors")
    return {
        name: {detector: _refusal(name, detector, library) for detector in detectors}
        for name in known(library)
    }


def describe(library: Library) -> str:
    """Return the matrix as text, and below it what the refused detectors do not offer."""
    cells, detectors = matrix(library), library.names("detectors")
    width = max(map(len, cells))
    lines = [f"{'':{width}}  {'  '.join(detectors)}"]
    for name, row in cells.items():
        marks = (f"{'-' if row[d] else 'x':^{len(d)}}" for d in detectors)
        lines.append(f"{name:{width}}  {'  '.join(marks)}".rstrip())
    lines.append("\nA method and a detector that does not offer what it reads:\n")
    refused = 0
    for name, row in cells.items():
        reasons: dict[str, list[str]] = {}
        for detector, reason in row.items():
            if reason:
                reasons.setdefault(reason.split(",")[0], []).append(detector)
        lines += [f"{name} {reason}: not {', '.join(names)}" for reason, names in reasons.items()]
        refused += sum(map(len, reasons.values()))
    taken = len(cells) * len(detectors) - refused
    return "\n".join([*lines, "", f"{taken} pairs, {refused} refused"])


def _refusal(name: str, detector: str, library: Library) -> str:
    terms = resolve(name, {}, detector, library, "kd methods")
    (settings,) = terms.values()
    return next(refusals(_method(settings), detector, detector, library, "kd methods"), "")


def _settings(
    term: str, overrides: dict[str, Any], two_stage: bool, library: Library, where: str
) -> dict[str, Any]:
    preset = library.preset(term)
    if preset:
        name, file = preset.method, f"{library.root}/methods/{term}.yaml"
        if name not in methods.names():
            raise UserError(f"{file}: no method '{name}'; {suggest(name, methods.names())}")
        methods.get(name).parse(preset.settings, f"{file}: settings")
        overrides = {**preset.settings, **overrides}
    elif term in methods.names():
        name = term
    else:
        raise UserError(f"{where}: no method '{term}'; {suggest(term, known(library))}")
    overrides = {**methods.get(name).defaults(two_stage), **overrides}
    settings = methods.get(name).parse(overrides, f"{where}: settings of '{term}'")
    return {"method": name, **settings.model_dump(mode="json")}


def _method(settings: dict[str, Any]) -> Method:
    values = {key: value for key, value in settings.items() if key != "method"}
    return methods.get(settings["method"]).model_validate(values)


def _strides(detector: Detector) -> list[int]:
    """Return the pixels per cell of each level of a detector's pyramid."""
    head = detector.model.get("rpn_head") or detector.model["bbox_head"]
    return head.get("anchor_generator", head)["strides"]


def _listed(values: Any) -> str:
    ordered = values if isinstance(values, list) else sorted(values)
    return " and ".join(map(str, ordered))
