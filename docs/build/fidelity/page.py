"""Text of the page: differences by detector, with their reasons."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mmdet

from docs.build.fidelity.tables import Explained, FidelityTables
from docs.build.markdown import grid
from kd.models.fidelity.compare import ABSENT

PAGE = Path("docs/reference/fidelity.md")
WHERE = "fidelity"
INTRODUCTION = """# Our configurations beside mmdet's

This page compares composed configurations of scale `paper` with those in mmdet {version}. It covers
model, losses, assigners, samplers, anchors, pipelines of training and test images, schedule and
filters of images. Each difference has its reason.

- `python -m docs.build.fidelity` writes the page. `docs/build/fidelity/pairs.yaml` lists the pairs,
  and `docs/build/fidelity/reasons.yaml` the reasons.
- Tests fail for a difference without a reason, and for a reason without a difference.
- `kd.models.fidelity.compare` compares a composed configuration with one of mmdet's by name. A
  setting that one side leaves out has the default of its class. Our subclasses have the names of
  mmdet's classes.
- The batch is that of all GPUs: `8xb32` in a name, otherwise mmdet's `base_batch_size`. Data that
  mmdet lists several times (`RepeatDataset`) count as epochs.
- "Equal" counts the settings that at least one side states and that are equal.

[Changes to mmdet](mmdet-changes.md) lists changes of code. A run reads the weights of a published
configuration if the models are equal; initial weights, schedule and data may differ then."""
COMMON = """## Differences of every detector

The tables of the detectors leave these out."""


def page(tables: FidelityTables) -> str:
    """Return the page: an introduction, differences of every detector, those of each."""
    explained = list(tables.explained())
    common = [one for one in explained if one.reason and one.reason.is_common]
    special = [one for one in explained if one not in common]
    parts = [INTRODUCTION.format(version=mmdet.__version__), COMMON]
    parts.append(grid(["setting", "here", "mmdet", "reason"], _common_rows(common)))
    library = tables.library
    for detector in library.names("detectors"):
        names = [name for name, pair in tables.pairs.items() if pair.detector == detector]
        if not names:
            continue
        parts += [f"## {library.detector(detector, WHERE).title}", _summary(tables, names)]
        if rows := list(_rows([one for one in special if one.name in names], len(names))):
            parts.append(grid(["setting", "here", "mmdet", "of", "reason"], rows))
        else:
            parts.append("There are no other differences.")
    return "\n\n".join(parts) + "\n"


def _summary(tables: FidelityTables, names: list[str]) -> str:
    """Return the compared configurations with the numbers of settings."""
    rows = []
    for name in names:
        pair, comparison = tables.pairs[name], tables.comparisons[name]
        counts = [str(comparison.equal), str(len(comparison.differences))]
        rows.append([f"`{name}`", pair.backbone, pair.schedule, pair.dataset, *counts])
    return grid(["mmdet", "backbone", "schedule", "data", "equal", "different"], rows)


def _common_rows(explained: Iterable[Explained]) -> Iterator[list[str]]:
    rows = {}
    for _, difference, reason in explained:
        if reason is not None:
            cells = [f"`{reason.path}`", _value(difference.ours), _value(difference.mmdets)]
            rows[tuple(cells)] = [*cells, reason.reason]
    yield from rows.values()


def _rows(explained: list[Explained], count: int) -> Iterator[list[str]]:
    """Yield a row for each difference of a detector, with the configurations that have it."""
    names: dict[tuple[str, str, str, str], list[str]] = {}
    for name, difference, reason in explained:
        setting = difference.path.removesuffix(".checkpoint")
        values = _value(difference.ours), _value(difference.mmdets)
        row = (f"`{setting}`", values[0], values[1], reason.reason if reason else "**none**")
        names.setdefault(row, []).append(f"`{name}`")
    for (path, ours, mmdets, text), having in names.items():
        places = "all" if len(having) == count else ", ".join(having)
        yield [path, ours, mmdets, places, text]


def _value(value: Any) -> str:
    """Return a value in YAML's form; of an address only the file."""
    if value is ABSENT:
        return "absent"
    return f"`{_text(value)}`"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, str) and value.startswith("https://"):
        return Path(urlparse(value).path).name
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
