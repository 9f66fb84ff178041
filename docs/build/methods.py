"""Tables of methods in ``docs/reference/methods.md``: ``python -m docs.build.methods``."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.plotting import alt_text
from docs.build.markdown import grid
from docs.build.measurements import insert
from kd import methods
from kd.common.files import write_text
from kd.config.applicability import matrix
from kd.config.library import Library
from kd.config.terms import method_names, settings_of
from kd.methods.base import Method

PAGE, PICTURES = Path("docs/reference/methods.md"), Path("docs/figures/methods")
WHERE = "docs.build.methods"
RULE = "[rule](#defaults-where-sources-are-silent)"
FACTS = {
    "Loss": "Loss",
    "Code": "Published code",
    "Here": "Choices made here",
    "Unknown": "Not verified",
}
"""Paragraphs of a method's docstring by their first word, with their titles on the page."""
CAPTIONS = {
    "soft_labels": "student's boxes at the compared candidates that have an object",
    "chen": "boxes whose error exceeds the teacher's bound",
    "fitnets": "norm of the teacher's neck map, by level",
    "mimic": "the shared proposals",
    "fgfi": "cells near objects by their anchors, by level",
    "tadf": "Gaussian masks on objects, by level",
    "defeat": "cells of objects, by level; all other cells are background",
    "defeat_full": "cells of objects, by level and in the backbone, and RoIs on objects",
    "fkd": "spatial attention mask of both models, by level",
    "gid": "the regions where both models disagree",
    "rm": "student's boxes at the ranked priors",
    "pfi": "difference of class outputs, by level",
    "ld": "weights in the valuable localization region by level, and boxes at positive priors",
    "bckd": "largest difference of class probabilities, by level",
    "dicod": "predicted boxes, and crops of boxes and objects as the classifier sees them",
    "pkd": "teacher's squared standardized features, averaged over channels, by level",
    "cwd": "teacher's probability of each cell, averaged over channels, by level",
    "frs": "the teacher's best score of each cell, by level",
    "crosskd": "quality focal loss of the class outputs of the teacher's head, by level",
    "mgd": "norm of the student's neck map in the cells that are not masked, by level",
    "fgd": "weight of each cell: the teacher's attention in boxes and in the background, by level",
}
"""Content of the pictures of methods and presets."""


def main() -> None:
    """Replace the generated parts of the page."""
    text = PAGE.read_text(encoding="utf-8")
    write_text(PAGE, page(text, Library()))


def page(text: str, library: Library) -> str:
    """Return the text of the page with its generated parts replaced."""
    parts = {"methods": _overview(), "details": "\n\n".join(_sections(library))}
    for name, content in parts.items():
        text = insert(text, name, content, PAGE)
    return text


def _overview() -> str:
    rows = (
        [f"[`{name}`](#{name})", method.title, _summary(method), _citation(method), _code(method)]
        for name, method in zip(methods.names(), map(methods.get, methods.names()), strict=True)
    )
    return grid(["method", "title", "what is distilled", "paper", "published code"], rows)


def _sections(library: Library) -> Iterator[str]:
    """Yield the section of each method."""
    detectors = {
        name: [detector for detector, refusal in row.items() if not refusal]
        for name, row in matrix(library).items()
    }
    for name in methods.names():
        method = methods.get(name)
        yield f"### {name}"
        yield _markdown(_module(method))
        yield grid(["", ""], _facts(name, method, detectors[name], library))
        yield grid(["setting", "default", "meaning"], _settings(name, method, library))
        presets = list(_presets(name, detectors, library))
        if presets:
            yield grid(["preset", "what it is", "settings", "detectors"], presets)
        yield from _pictures(name, library)


def _facts(
    name: str, method: type[Method], detectors: list[str], library: Library
) -> Iterator[list[str]]:
    """Yield title and text of what the docstring and the configuration state of a method."""
    yield ["Distills", _summary(method)]
    paragraphs = (inspect.getdoc(method) or "").split("\n\n")[1:]
    for paragraph in paragraphs:
        label, _, text = paragraph.partition(": ")
        yield [FACTS[label], _cell(_sentence(text))]
    terms = ", ".join(f"`{term}` (`{setting}`)" for term, setting in method.weights.items())
    yield ["Terms in the log (weight)", terms]
    yield ["Detectors", ", ".join(f"`{detector}`" for detector in detectors)]
    yield ["Studies", ", ".join(_studies(name, library))]


def _studies(name: str, library: Library) -> Iterator[str]:
    """Yield the studies that have rows of a method or of its presets, with their tables."""
    names = {preset for preset in method_names(library) if _method(preset, library) == name}
    for study_name in library.names("studies"):
        tables = library.study(study_name, WHERE).tables
        keys = [
            f"`{key}`"
            for key, table in tables.items()
            if names & {part for row in table.methods for part in row.split("+")}
        ]
        if keys:
            yield f"`{study_name}` ({', '.join(keys)})"


def _settings(name: str, method: type[Method], library: Library) -> Iterator[list[str]]:
    one_stage, two_stage = (
        settings_of(name, {}, is_two_stage, library, WHERE) for is_two_stage in (False, True)
    )
    for key in method.model_fields:
        if key in Method.model_fields and one_stage.get(key) is None:
            continue
        default = f"`{_value(one_stage[key])}`"
        if one_stage[key] != two_stage[key]:
            default += f"; with two stages `{_value(two_stage[key])}`"
        yield [f"`{key}`", default, _cell(method.meaning(key))]


def _presets(name: str, detectors: dict[str, list[str]], library: Library) -> Iterator[list[str]]:
    for key, preset in sorted(library.presets.items()):
        if preset.method == name:
            settings = ", ".join(f"`{k}: {_value(v)}`" for k, v in preset.settings.items())
            same = detectors[key] == detectors[name]
            accepted = "the same" if same else ", ".join(f"`{d}`" for d in detectors[key])
            yield [f"`{key}`", _cell(preset.title), settings, accepted]


def _pictures(name: str, library: Library) -> Iterator[str]:
    """Yield the pictures of a method and of its presets."""
    for key, content in CAPTIONS.items():
        if _method(key, library) == name:
            text = alt_text.read(library.root.parent / PICTURES / f"{key}.png") or content
            yield f"![{text}](../figures/methods/{key}.png)"
            yield f"`{key}` in one training image: {content}."


def _method(name: str, library: Library) -> str:
    """Return the method of a preset, or the method itself."""
    preset = library.presets.get(name)
    return preset.method if preset else name


def _summary(method: type[Method]) -> str:
    return _cell((inspect.getdoc(method) or "").split("\n")[0]).removesuffix(".")


def _citation(method: type[Method]) -> str:
    """Return the paper of a method: the last parentheses of its module's docstring."""
    return re.findall(r"\(([^()]+)\)", _module(method))[-1]


def _module(method: type[Method]) -> str:
    return inspect.getdoc(inspect.getmodule(method)) or ""


def _code(method: type[Method]) -> str:
    """Return the beginning of what the docstring states of published code."""
    text = next(p for p in (inspect.getdoc(method) or "").split("\n\n") if p.startswith("Code: "))
    sentence = re.split(r"\.\s|\s\(|:\s", text.removeprefix("Code: "))[0]
    return _cell(sentence)


def _sentence(text: str) -> str:
    """Return a text with a capital letter, unless it begins with a symbol or a setting."""
    return text if text.startswith(("lambda", "gamma", "``")) else text[0].upper() + text[1:]


def _value(value: Any) -> str:
    """Return a setting's value as YAML writes it."""
    return json.dumps(value).replace('"', "")


def _cell(text: str) -> str:
    """Return a docstring as the text of a cell of a Markdown table."""
    return _markdown(" ".join(text.split())).replace("|", r"\|")


def _markdown(text: str) -> str:
    """Return a docstring's text with its code in single backticks and the rule as a link."""
    return text.replace("``", "`").replace("rule in docs/reference/methods.md", RULE)


if __name__ == "__main__":
    main()
