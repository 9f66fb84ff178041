"""From a method's name in a study (``rm+pfi``) to checked settings of each of its terms."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from kd import methods
from kd.common.errors import UserError, suggest
from kd.config.library import Library
from kd.config.parts import Detector
from kd.methods.base import Method
from kd.observers.heads import (
    DENSE_HEADS,
    ROI_HEADS,
    SHARED,
    head_types,
    observer_of_model,
    offered,
)

Terms = dict[str, dict[str, Any]]


def resolve(
    name: str, overrides: dict[str, dict[str, Any]], detector: str, library: Library, where: str
) -> Terms:
    """Return ``{term: {"method": ..., "version": ..., settings...}}`` for a name like ``rm+pfi``.

    A method may have other defaults for a ``detector`` of two stages.
    """
    terms = name.split("+")
    if len(set(terms)) != len(terms):
        raise UserError(f"{where}: method '{name}' names a term twice")
    two_stage = "roi_head" in library.detector(detector, where).model
    settings = {
        term: settings_of(term, overrides.get(term, {}), two_stage, library, where)
        for term in terms
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
    return {kind for kind in (method_of(each).needs.teacher for each in terms.values()) if kind}


def check_readable(
    terms: Terms, student: str, teacher: str | None, library: Library, where: str
) -> None:
    """Refuse a pair of detectors that does not offer what a method reads."""
    for term, settings in terms.items():
        for reason in refusals(method_of(settings), student, teacher, library, where):
            raise UserError(f"{where}: method '{term}' {reason}")


def refusals(
    method: Method, student: str, teacher: str | None, library: Library, where: str
) -> Iterator[str]:
    """Yield the reasons why a method does not apply to a student and its teacher's detector."""
    needs = method.needs
    own = library.detector(student, where)
    lacking = (needs.both | needs.student) - offered(own.model)
    if lacking:
        yield _lacking(lacking, student, own)
        return
    if needs.teacher != "detector" or teacher is None:
        return
    other = library.detector(teacher, where)
    layouts = [_layout(name, part) for name, part in ((student, own), (teacher, other))]
    if layouts[0] == layouts[1]:
        return
    if needs.both - offered(other.model):
        yield _lacking(needs.both - offered(other.model), teacher, other)
    elif needs.both - SHARED:
        yield (
            f"compares {_listed(needs.both - SHARED)} row for row, "
            f"which '{teacher}' and '{student}' do not share"
        )
    elif "neck" in needs.both and layouts[0].strides != layouts[1].strides:
        yield (
            f"compares neck maps, but '{student}' has strides {_listed(layouts[0].strides)} "
            f"and '{teacher}' {_listed(layouts[1].strides)}"
        )


def _lacking(names: frozenset[str], detector: str, part: Detector) -> str:
    """Return in words that a detector does not offer something and, of an unknown head, why."""
    text = f"reads {_listed(names)}, which detector '{detector}' does not offer"
    if observer_of_model(part.model) != "maps":
        return text
    types = " and ".join(filter(None, head_types(part.model)))
    readable = ", ".join([*DENSE_HEADS, *(f"{name} behind RPNHead" for name in ROI_HEADS)])
    return (
        f"{text}: of its {types} methods read the neck's and backbone's maps alone; "
        f"predictions are read of {readable}"
    )


def known(library: Library) -> list[str]:
    """Return every name that a study may use: methods, and presets of ``configs/presets``."""
    return sorted({*methods.names(), *library.presets})


def settings_of(
    term: str, overrides: dict[str, Any], two_stage: bool, library: Library, where: str
) -> dict[str, Any]:
    """Return the checked settings of a method or preset, and its ``method``."""
    preset = library.preset(term)
    if preset:
        name = preset.method
        methods.get(name).parse(preset.settings, f"{preset.file}: preset '{term}': settings")
        overrides = {**preset.settings, **overrides}
    elif term in methods.names():
        name = term
    else:
        raise UserError(f"{where}: no method '{term}'; {suggest(term, known(library))}")
    overrides = {**methods.get(name).defaults(two_stage), **overrides}
    settings = methods.get(name).parse(overrides, f"{where}: settings of '{term}'")
    version = methods.get(name).version
    return {"method": name, "version": version, **settings.model_dump(mode="json")}


def method_of(settings: dict[str, Any]) -> Method:
    """Return the method that checked settings describe.

    UserError where they are of another version of it, whose losses are no longer computed.
    """
    name, version = settings["method"], settings.get("version")
    method = methods.get(name)
    if version != method.version:
        raise UserError(
            f"version {version} of method '{name}' is no longer computed, only {method.version}; "
            "compose the run again (`snakemake` does, or `kd compose STUDY --write`)"
        )
    values = {key: value for key, value in settings.items() if key not in ("method", "version")}
    return method.model_validate(values)


class _Layout(NamedTuple):
    """Where a detector predicts: two of one layout have the same priors."""

    observer: str
    strides: list[int]
    priors: dict[str, Any]


def _layout(name: str, part: Detector) -> _Layout:
    head = part.model.get("rpn_head") or part.model.get("bbox_head") or {}
    priors = head.get("anchor_generator", {})
    strides = priors.get("strides") or head.get("strides")
    if not strides:
        raise UserError(
            f"configs/detectors/{name}.yaml: its head states no strides, by which methods compare "
            "maps; give 'strides' or those of its 'anchor_generator'"
        )
    return _Layout(observer_of_model(part.model), strides, priors)


def _listed(values: Any) -> str:
    ordered = values if isinstance(values, list) else sorted(values)
    return " and ".join(map(str, ordered))
