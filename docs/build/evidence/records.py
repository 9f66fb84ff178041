"""Stored results of runs under ``docs/evidence``: a few numbers of each run, and its origin."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.figures.training_curves.compute import read_log
from analysis.statistics.seeds import POINTS
from analysis.tables.csv_file import read_csv, to_csv
from analysis.tables.rows import METRICS, ResultRow
from analysis.tables.write import results
from kd.common.files import read_json, write_text
from kd.config.plan import Plan, Row
from kd.config.run import Run, study_folder
from kd.evaluation.metrics import Metrics
from kd.methods.base import DETECTION_TERM
from kd.training.term_scale import PROBE_STEPS

FOLDER = Path("docs/evidence")
ORIGIN = (
    *("started", "finished", "steps", "seconds", "images_per_second", "peak_memory_mb"),
    *("teacher_cache_mb", "commit", "data", "weights_sha256", "teacher_sha256"),
    *("cpu", "instructions", "threads", "command"),
)
"""Columns from a run's provenance."""
RUN = ("table", "detector", "method", "setting", "seed")
"""Columns that identify a run of a study."""
TERM_NUMBERS = ("share", "gradient_first", "gradient", "gradient_last")
FIGURES = {
    "tide": "tide-differences",
    "channels": "channel_distance-means",
    "adapted": "channel_distance-means",
    "ranks": "rank_agreement",
    "tide_two_stage": "tide-differences",
    "channels_two_stage": "channel_distance-means",
}
"""Figures of a study whose data are stored, each with the name of its table."""
FIRST_PROBES = 3
"""Records whose gradients count as those of the first steps."""


def collect(plan: Plan, study: str, scale: str) -> list[str]:
    """Write rows, runs and distillation terms of a plan to CSV, from the finished runs.

    A table is replaced as a whole. If ``results/`` lacks a stored run of a table, the table is not
    changed, and a message that names the run is returned. The data of figures are copied as well.
    """
    missing = _missing_runs(plan, study)
    rows = [row for row in plan.rows if row.table not in missing and _has_results(row)]
    if rows:
        _update(replace(plan, rows=rows), study)
    for name, table in FIGURES.items():
        source = study_folder(study, scale) / "figures" / name / f"{table}.csv"
        if source.exists():
            shutil.copyfile(source, FOLDER / f"{study}-{name}.csv")
    return [
        f"{study}, {key}: not changed, because results/ lacks {len(runs)} of its runs "
        f"({runs[0]}, ...)"
        for key, runs in missing.items()
    ]


def _update(plan: Plan, study: str) -> None:
    """Replace the tables of a plan's rows in the CSV files."""
    titles = {key: table.title for key, table in plan.study.tables.items()}
    table_keys = dict.fromkeys(row.table for row in plan.rows)
    runs = pd.DataFrame(_runs(plan), columns=[*RUN, *METRICS, *ORIGIN, "run"])
    lines = [line for row, run in _distilled(plan) for line in _terms(row, run)]
    terms = pd.DataFrame(lines, columns=[*RUN, "term", *TERM_NUMBERS])
    _merge_rows(study, results(plan), [*titles.values()])
    _merge(f"{study}-runs", runs, table_keys, [*titles])
    _merge(f"{study}-terms", terms, table_keys, [*titles])


def _missing_runs(plan: Plan, study: str) -> dict[str, list[str]]:
    """Return, by table, the stored and planned runs that ``results/`` lacks."""
    missing: dict[str, list[str]] = {}
    if not (FOLDER / f"{study}-runs.csv").exists():
        return missing
    stored = read(f"{study}-runs")
    stored_runs = set(zip(stored["table"], stored["run"], strict=True))
    for row in plan.rows:
        for run in row.runs.values():
            key = (row.table, str(run.directory))
            if key in stored_runs and not (run.directory / "metrics.json").exists():
                missing.setdefault(row.table, []).append(str(run.directory))
    return missing


def _has_results(row: Row) -> bool:
    return any((run.directory / "metrics.json").exists() for run in row.runs.values())


def _merge(name: str, frame: pd.DataFrame, replaced: Iterable[str], order: Sequence[str]) -> None:
    """Write a CSV of tables in their order; ``frame`` replaces the lines of some tables."""
    if (FOLDER / f"{name}.csv").exists():
        stored = read(name)
        others = stored[~stored["table"].isin([*replaced]) & stored["table"].isin(order)]
        frame = pd.concat([frame, others]) if len(others) else frame
    place = {table: at for at, table in enumerate(order)}
    frame = frame.sort_values("table", key=lambda tables: tables.map(place), kind="stable")
    text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(FOLDER / f"{name}.csv", text)


def _merge_rows(study: str, rows: Sequence[ResultRow], order: Sequence[str]) -> None:
    """Write the rows of a study's tables in their order; ``rows`` replace those of their tables."""
    rows = [replace(row, runs=(), baseline_runs=(), teacher_runs=()) for row in rows]
    replaced = {row.table for row in rows}
    if (FOLDER / f"{study}.csv").exists():
        others = [row for row in read_rows(study) if row.table not in replaced]
        rows += [row for row in others if row.table in order]
    rows.sort(key=lambda row: order.index(row.table))
    write_text(FOLDER / f"{study}.csv", to_csv(rows))


def read_rows(study: str) -> list[ResultRow]:
    """Return the stored rows of a study's tables."""
    return read_csv(FOLDER / f"{study}.csv")


def read(name: str) -> pd.DataFrame:
    """Return a CSV of the folder with its original types; missing text is empty."""
    frame = pd.read_csv(FOLDER / f"{name}.csv", keep_default_na=False, na_values=[""])
    text = [column for column in frame if column == "setting" or frame[column].dtype == object]
    return frame.fillna(dict.fromkeys(text, "")).astype(dict.fromkeys(text, str))


def _runs(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield a line for each finished run of each row."""
    for row in plan.rows:
        for seed, run in row.runs.items():
            if (run.directory / "metrics.json").exists():
                yield {**_row(row, seed), **_metrics(run), **_origin(run.directory)}


def _row(row: Row, seed: int) -> dict[str, Any]:
    values = (row.table, row.detector, row.method, row.setting, seed)
    return dict(zip(RUN, values, strict=True))


def _metrics(run: Run) -> dict[str, float | None]:
    """Return the metrics of a run in points."""
    metrics = Metrics.read(run.directory / "metrics.json")
    values = {name: getattr(metrics, name) for name in METRICS}
    return {name: None if value is None else POINTS * value for name, value in values.items()}


def _origin(directory: Path) -> dict[str, Any]:
    record = read_json(directory / "provenance.json")
    depends = record["inputs"]
    record |= {"data": depends.get("data"), "teacher_sha256": depends.get("teacher")}
    return {**{name: record.get(name) for name in ORIGIN}, "run": str(directory)}


def _distilled(plan: Plan) -> Iterator[tuple[Row, Run]]:
    """Yield every finished distilled run once."""
    names = set()
    for row in plan.rows:
        for run in row.runs.values():
            finished = (run.directory / "metrics.json").exists()
            if row.kind == "distilled" and finished and run.name not in names:
                names.add(run.name)
                yield row, run


def _terms(row: Row, run: Run) -> Iterator[dict[str, Any]]:
    """Yield a line for each term of a run: share of the loss, gradients relative to detection."""
    log = read_log(run.directory / "log.jsonl").records
    probes = [
        record["gradient_norm"]
        for record in log
        if "gradient_norm" in record and record["step"] not in PROBE_STEPS
    ]
    for term in log[-1]["share"]:
        share = fmean(record["share"][term] for record in log)
        ratios = [_norm(probe[term]) / _norm(probe[DETECTION_TERM]) for probe in probes]
        first, rest = ratios[:FIRST_PROBES], ratios[FIRST_PROBES:]
        numbers = (share, fmean(first), fmean(rest), ratios[-1])
        name = {"term": term.removeprefix("loss_")}
        yield {**_row(row, run.seed), **name, **dict(zip(TERM_NUMBERS, numbers, strict=True))}


def _norm(levels: Sequence[float]) -> float:
    """Return the L2 norm over all levels of the neck."""
    return sum(level**2 for level in levels) ** 0.5
