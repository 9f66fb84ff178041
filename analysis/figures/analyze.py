"""One analysis of some runs, from their files to a folder of pictures, data and caption."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.figures.base import Analysis, Results
from analysis.plotting import style
from analysis.runs.groups import RunGroup, read
from analysis.tables.comparability import mismatches
from kd.common.errors import UserError
from kd.common.files import write_text
from kd.config.library import Library

SIGNIFICANT = "%.7g"


def analyze(
    analysis: Analysis, directories: Sequence[Path], folder: Path, library: Library
) -> list[Path]:
    """Write what an analysis finds in runs into ``folder``; return the paths.

    UserError where a run lacks a file that it reads.
    """
    for directory in directories:
        for name in analysis.reads:
            if not analysis.unfinished and not (directory / name).exists():
                raise UserError(f"{directory / name}: no such file; has the run been finished?")
    groups = read(directories, library)
    found = analysis.run(groups, library)
    _check(analysis, found)
    paths: list[Path] = []
    for name, frame in found.tables.items():
        paths.append(folder / f"{name}.csv")
        write_text(paths[-1], frame.to_csv(index=False, float_format=SIGNIFICANT))
    for name, picture in found.pictures.items():
        paths += style.save(picture, folder / name)
    paths.append(folder / "caption.md")
    write_text(paths[-1], caption(analysis, found, groups))
    return paths


def caption(analysis: Analysis, found: Results, groups: Sequence[RunGroup]) -> str:
    """Return the caption in Markdown: finding, definition, settings, and runs with their faults."""
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in analysis.model_dump().items())
    runs = [f"- {s.label}: `{path}`" for s in groups for path in s.runs.values()]
    paths = [path for s in groups for path in s.runs.values()]
    problems = [f"- {text}" for text in mismatches(paths, [])]
    parts = [
        f"# {analysis.title}",
        found.caption,
        analysis.definition(),
        f"Settings: {settings}." if settings else "",
        "\n".join(["Runs:", "", *runs]),
        "\n".join(["Not all of these runs can be compared:", "", *problems]) if problems else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _check(analysis: Analysis, found: Results) -> None:
    """Hold an analysis to what it declares, for the workflow waits for exactly that."""
    for declared, made in (
        (analysis.pictures, found.pictures),
        (analysis.tables, found.tables),
    ):
        assert set(declared) == set(made), f"{analysis.title}: {set(declared) ^ set(made)}"
