"""Applicability of methods to detectors, and the description of a method."""

import inspect
from typing import Any

from tabulate import tabulate

from kd import methods
from kd.config.library import Library
from kd.config.terms import method_names, method_of, refusals, resolve, settings_of
from kd.methods.base import Method

WHERE = "kd methods"


def matrix(library: Library) -> dict[str, dict[str, str]]:
    """Return by method and detector the reason why the method is refused, empty if it applies.

    Teacher and student have the same detector, and the method has its default settings.
    """
    return {name: _row(name, library) for name in method_names(library)}


def describe(library: Library) -> str:
    """Return the matrix as text, and below it the outputs that refused detectors do not offer."""
    cells, detectors = matrix(library), library.names("detectors")
    marks = [[name, *("-" if row[d] else "x" for d in detectors)] for name, row in cells.items()]
    align = ["left"] + ["center"] * len(detectors)
    lines = [tabulate(marks, ["", *detectors], tablefmt="plain", colalign=align)]
    lines.append("\nMethods that read outputs which a detector does not offer:\n")
    refused = 0
    for name, row in cells.items():
        reasons: dict[str, list[str]] = {}
        for detector, reason in row.items():
            if reason:
                reasons.setdefault(reason.split(",")[0], []).append(detector)
        lines += [f"{name} {reason}: not {', '.join(names)}" for reason, names in reasons.items()]
        refused += sum(map(len, reasons.values()))
    accepted = len(cells) * len(detectors) - refused
    return "\n".join([*lines, "", f"{accepted} pairs, {refused} refused"])


def explain(name: str, library: Library) -> str:
    """Return the description of a method or preset, with its settings and detectors."""
    one_stage, two_stage = (
        settings_of(name, {}, is_two_stage, library, WHERE) for is_two_stage in (False, True)
    )
    method = methods.get(one_stage["method"])
    preset = library.presets.get(name)
    paragraphs = [f"{name}: {preset.title} (preset of {preset.method})"] if preset else []
    paragraphs.append(f"{one_stage['method']}: {inspect.getdoc(method)}")
    paragraphs += [
        _setting(key, one_stage[key], two_stage[key], method) for key in method.model_fields
    ]
    reasons = _row(name, library)
    accepted = [detector for detector, reason in reasons.items() if not reason]
    paragraphs.append("detectors: " + ", ".join(accepted))
    presets = {key: value for key, value in library.presets.items() if value.method == name}
    if presets:
        paragraphs.append("presets:")
        paragraphs[-1] += "".join(f"\n  {key}: {value.title}" for key, value in presets.items())
    return "\n\n".join(paragraphs)


def _setting(key: str, one_stage: Any, two_stage: Any, method: type[Method]) -> str:
    """Return a setting with its value, with both values if two-stage detectors have another."""
    value = (
        f"{one_stage}" if one_stage == two_stage else f"{one_stage}; with two stages {two_stage}"
    )
    return method.explain(key, value)


def _row(name: str, library: Library) -> dict[str, str]:
    return {detector: _refusal(name, detector, library) for detector in library.names("detectors")}


def _refusal(name: str, detector: str, library: Library) -> str:
    terms = resolve(name, {}, detector, library, WHERE)
    (settings,) = terms.values()
    return next(refusals(method_of(settings), detector, detector, library, WHERE), "")
