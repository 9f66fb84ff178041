"""Run one analysis: from the files of runs to a folder of pictures, tables and a caption."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.figures.base import Analysis, Results
from analysis.figures.columns import COLUMNS
from analysis.plotting import style
from analysis.runs.groups import RunGroup, read
from analysis.tables.comparability import mismatches
from kd.common.errors import UserError
from kd.common.files import write_text
from kd.common.results import require_result
from kd.config.composed import read_config
from kd.config.library import Library

FLOAT_FORMAT = "%.7g"
"""Format of the numbers in CSV files."""


def analyze(
    analysis: Analysis, directories: Sequence[Path], folder: Path, library: Library
) -> list[Path]:
    """Run an analysis and write its results into ``folder``; return the paths of the files.

    UserError if a run lacks a file that the analysis reads.
    """
    for directory in directories:
        for path in analysis.inputs(directory):
            if not analysis.unfinished:
                require_result(path)
    groups = read(directories, library)
    results = analysis.run(groups, library)
    _check_names(analysis, results)
    paths: list[Path] = []
    for name, frame in results.tables.items():
        paths.append(folder / f"{name}.csv")
        write_text(paths[-1], frame.to_csv(index=False, float_format=FLOAT_FORMAT))
    for name, picture in results.pictures.items():
        paths += style.save(picture, folder / name, alt_text=results.alt_texts[name])
    paths.append(folder / "caption.md")
    write_text(paths[-1], full_caption(analysis, results, groups))
    return paths


def full_caption(analysis: Analysis, results: Results, groups: Sequence[RunGroup]) -> str:
    """Return a caption in Markdown: findings, definition, settings, runs, and their differences."""
    settings = ", ".join(f"{key} {_plain(value)}" for key, value in analysis.model_dump().items())
    paths = [path for group in groups for path in group.runs.values()]
    labels = [group.label for group in groups for _ in group.runs]
    runs = [f"- {label}{_stop(path)}: `{path}`" for label, path in zip(labels, paths, strict=True)]
    differences = [f"- {text}" for text in mismatches(paths, [])]
    parts = [
        f"# {analysis.title}",
        results.caption,
        analysis.definition(),
        f"Settings: {settings}." if settings else "",
        "\n".join(["Runs:", "", *runs]),
        "\n".join(["Not all of these runs can be compared:", "", *differences])
        if differences
        else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stop(directory: Path) -> str:
    """Return the epoch after which a run was stopped, as a remark; empty if it was not."""
    train_cfg = read_config(directory).get("train_cfg", {})
    stop = train_cfg.get("stop_epoch")
    return f" (after {stop} of {train_cfg['max_epochs']} epochs)" if stop else ""


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def _check_names(analysis: Analysis, results: Results) -> None:
    """Raise UserError unless an analysis returned the files and the columns that it declares.

    The workflow waits for these files, and the documentation describes these columns.
    """
    where = type(analysis).__module__.replace(".", "/") + ".py"
    for key, declared, returned in (
        ("pictures", analysis.pictures, results.pictures),
        ("pictures", analysis.pictures, results.alt_texts),
        ("tables", analysis.tables, results.tables),
    ):
        if set(declared) != set(returned):
            raise UserError(
                f"{where}: '{key}' declares {sorted(declared)}, but run() returned "
                f"{sorted(returned)}; make them equal"
            )
    for name, frame in results.tables.items():
        if list(frame) != list(COLUMNS.get(name, ())):
            raise UserError(
                f"analysis/figures/columns.py: the columns of '{name}' must be those of "
                f"{name}.csv, in its order: {', '.join(map(str, frame))}"
            )
