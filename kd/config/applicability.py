"""Which method applies to which detector, and what a method is."""

import inspect
from typing import Any

from tabulate import tabulate

from kd import methods
from kd.config.library import Library
from kd.config.terms import known, method_of, refusals, resolve, settings_of
from kd.methods.base import Method

WHERE = "kd methods"


def matrix(library: Library) -> dict[str, dict[str, str]]:
    """Return, for every method and detector, why the method is refused, or nothing.

    Teacher and student have the same detector, and the method its default settings.
    """
    return {name: _row(name, library) for name in known(library)}


def describe(library: Library) -> str:
    """Return the matrix as text, and below it what the refused detectors do not offer."""
    cells, detectors = matrix(library), library.names("detectors")
    marks = [[name, *("-" if row[d] else "x" for d in detectors)] for name, row in cells.items()]
    align = ["left"] + ["center"] * len(detectors)
    lines = [tabulate(marks, ["", *detectors], tablefmt="plain", colalign=align)]
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


def explain(name: str, library: Library) -> str:
    """Return what a method or preset is, its settings with their values, and its detectors."""
    one, two = (settings_of(name, {}, stages, library, WHERE) for stages in (False, True))
    method = methods.get(one["method"])
    preset = library.preset(name)
    paragraphs = [f"{name}: {preset.title} (preset of {preset.method})"] if preset else []
    paragraphs.append(f"{one['method']}: {inspect.getdoc(method)}")
    paragraphs += [_setting(key, one[key], two[key], method) for key in method.model_fields]
    row = _row(name, library)
    paragraphs.append("detectors: " + ", ".join(each for each in row if not row[each]))
    presets = {key: value for key, value in library.presets.items() if value.method == name}
    if presets:
        paragraphs.append("presets:")
        paragraphs[-1] += "".join(f"\n  {key}: {value.title}" for key, value in presets.items())
    return "\n\n".join(paragraphs)


def _setting(key: str, one: Any, two: Any, method: type[Method]) -> str:
    """Return a setting's value, that for two stages if it is another, and what it is."""
    shown = f"{one}" if one == two else f"{one}; with two stages {two}"
    return method.explain(key, shown)


def _row(name: str, library: Library) -> dict[str, str]:
    return {each: _refusal(name, each, library) for each in library.names("detectors")}


def _refusal(name: str, detector: str, library: Library) -> str:
    terms = resolve(name, {}, detector, library, WHERE)
    (settings,) = terms.values()
    return next(refusals(method_of(settings), detector, detector, library, WHERE), "")
