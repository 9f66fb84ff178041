"""Applicability of methods to detectors, and the description of a method."""

import inspect
from collections.abc import Sequence
from typing import Any

from kd import methods
from kd.common.documents import json_document
from kd.config.library import Library, Preset
from kd.config.terms import method_names, method_of, refusals, resolve, settings_of
from kd.methods.base import Method

WHERE = "kd methods"


def matrix(library: Library) -> dict[str, dict[str, str]]:
    """Return by method and detector the reason why the method is refused, empty if it applies.

    Teacher and student have the same detector, and the method has its default settings.
    """
    return {name: _row(name, library) for name in method_names(library)}


def describe(library: Library, with_presets: bool = False) -> str:
    """Return a line for each method, and for each preset on request: what it is, and detectors."""
    detectors, cells = library.names("detectors"), matrix(library)
    rows = []
    for name in methods.names():
        rows.append((name, summary(methods.get(name)), _accepting(cells[name], detectors)))
        presets = presets_of(name, library) if with_presets else {}
        rows += [
            (f"  {key}", preset.title, _accepting(cells[key], detectors))
            for key, preset in presets.items()
        ]
    lines = _aligned([("method", "distills", "detectors"), *rows])
    lines += ["", f"{len(detectors)} detectors: {', '.join(detectors)}", _counts(cells)]
    lines.append(
        "`kd methods NAME` prints one method in detail"
        + ("." if with_presets else "; `kd methods --all` adds all presets.")
    )
    return "\n".join(lines)


def grid(library: Library) -> str:
    """Return a line for each method with a mark under each detector that it applies to."""
    detectors, cells = library.names("detectors"), matrix(library)
    names = methods.names()
    rows = [
        (name, *("x" if not cells[name][detector] else "-" for detector in detectors))
        for name in names
    ]
    lines = [*_aligned([("", *detectors), *rows]), "", _counts(cells)]
    lines.append("x: applies; -: refused, for the reason that `kd methods NAME` prints.")
    return "\n".join(lines)


def _counts(cells: dict[str, dict[str, str]]) -> str:
    """Return the numbers of methods, detectors and pairs of both, in a line."""
    rows = [cells[name] for name in methods.names()]
    refused = sum(bool(reason) for row in rows for reason in row.values())
    pairs = sum(map(len, rows))
    return (
        f"{len(rows)} methods x {len(rows[0])} detectors = {pairs} pairs: "
        f"{pairs - refused} apply, {refused} are refused."
    )


def methods_json(library: Library) -> str:
    """Return the methods with their detectors and presets as JSON."""
    cells = matrix(library)
    return json_document(
        {
            "detectors": library.names("detectors"),
            "methods": [
                {
                    "name": name,
                    "title": methods.get(name).title,
                    "distills": summary(methods.get(name)),
                    **_applicability(cells[name]),
                    "presets": [
                        {"name": key, "title": preset.title, **_applicability(cells[key])}
                        for key, preset in presets_of(name, library).items()
                    ],
                }
                for name in methods.names()
            ],
        }
    )


def summary(method: type[Method]) -> str:
    """Return what a method distills: the first line of its docstring."""
    return (inspect.getdoc(method) or "").split("\n")[0].removesuffix(".")


def presets_of(method: str, library: Library) -> dict[str, Preset]:
    """Return the presets of a method by name."""
    return {key: preset for key, preset in library.presets.items() if preset.method == method}


def explain(name: str, library: Library) -> str:
    """Return the description of a method or preset, with its settings and detectors."""
    one_stage, two_stage = (
        settings_of(name, {}, is_two_stage, library, WHERE) for is_two_stage in (False, True)
    )
    method = methods.get(one_stage["method"])
    preset = library.presets.get(name)
    paragraphs = [f"{name}: {preset.title} (preset of {preset.method})"] if preset else []
    paragraphs.append(f"{one_stage['method']}: {inspect.getdoc(method)}")
    paragraphs += [_setting(key, one_stage, two_stage, method) for key in method.model_fields]
    paragraphs.append("\n".join(_detectors(_row(name, library))))
    presets = presets_of(name, library)
    if presets:
        paragraphs.append("presets:")
        paragraphs[-1] += "".join(f"\n  {key}: {value.title}" for key, value in presets.items())
    return "\n\n".join(paragraphs)


def bibtex(name: str, library: Library) -> str:
    """Return the BibTeX entries of a method's paper, of a composition's, or of all methods."""
    terms = name.split("+") if name else methods.names()
    settings = [settings_of(term, {}, False, library, WHERE) for term in terms]
    keys = dict.fromkeys(methods.get(one["method"]).cite for one in settings)
    return "\n\n".join(library.reference(key, WHERE) for key in keys if key)


def _detectors(row: dict[str, str]) -> list[str]:
    """Return a line with the detectors of a method, and one for each reason of a refusal."""
    accepted = [detector for detector, reason in row.items() if not reason]
    refused: dict[str, list[str]] = {}
    for detector, reason in row.items():
        if reason:
            refused.setdefault(reason.split(",")[0], []).append(detector)
    lines = [f"detectors: {', '.join(accepted)}"]
    lines += [f"refused ({reason}): {', '.join(names)}" for reason, names in refused.items()]
    return lines


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a line for each row, with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([f"{text:{width}}" for text, width in zip(row, widths, strict=True)] for row in rows)
    return ["  ".join(row).rstrip() for row in cells]


def _accepting(row: dict[str, str], detectors: list[str]) -> str:
    """Return the accepted detectors, or the refused ones if they are fewer."""
    accepted = [name for name in detectors if not row[name]]
    refused = [name for name in detectors if row[name]]
    if not refused:
        return "all"
    if len(refused) < len(accepted):
        return f"all but {', '.join(refused)}"
    return ", ".join(accepted)


def _applicability(row: dict[str, str]) -> dict[str, Any]:
    """Return the accepted detectors, and the refused ones with the reason."""
    return {
        "detectors": [name for name, reason in row.items() if not reason],
        "refused": {name: reason for name, reason in row.items() if reason},
    }


def _setting(
    key: str, one_stage: dict[str, Any], two_stage: dict[str, Any], method: type[Method]
) -> str:
    """Return a setting with its value, with both values if two-stage detectors have another."""
    first, second = (
        settings.get(key, method.unset_keys.get(key)) for settings in (one_stage, two_stage)
    )
    value = f"{first}" if first == second else f"{first}; with two stages {second}"
    return method.explain(key, value)


def _row(name: str, library: Library) -> dict[str, str]:
    return {detector: _refusal(name, detector, library) for detector in library.names("detectors")}


def _refusal(name: str, detector: str, library: Library) -> str:
    terms = resolve(name, {}, detector, library, WHERE)
    (settings,) = terms.values()
    return next(refusals(method_of(settings), detector, detector, library, WHERE), "")
