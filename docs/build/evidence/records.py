"""What is kept of a study's runs under ``docs/evidence``: a few numbers of each, and its origin."""

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
from kd.methods.base import DETECTION
from kd.training.term_scale import STEPS as PROBE_STEPS

FOLDER = Path("docs/evidence")
ORIGIN = (
    *("started", "finished", "steps", "seconds", "images_per_second", "peak_memory_mb"),
    *("teacher_cache_mb", "commit", "data", "weights_sha256", "teacher_sha256"),
    *("cpu", "instructions", "threads", "command"),
)
"""What is taken over from a run's provenance."""
RUN = ("table", "detector", "method", "setting", "seed")
"""What tells a study's runs from each other."""
WEIGHED = ("share", "gradient_first", "gradient", "gradient_last")
FIGURES = {
    "tide": "tide-differences",
    "channels": "channel_distance-means",
    "adapted": "channel_distance-means",
    "ranks": "rank_agreement",
    "tide_two_stage": "tide-differences",
    "channels_two_stage": "channel_distance-means",
}
"""Of these figures of a study the data are kept, too, by the name of the table."""
PROBED = 3
"""Records of the first steps, whose gradients say where training began."""


def collect(plan: Plan, study: str, scale: str) -> list[str]:
    """Write rows, runs and distillation terms of a plan to CSV, from the runs that are finished.

    A table is taken whole: where runs that it was made of are not here it stays as it is, and a
    line that says so is returned. With the tables go the data of figures that were made.
    """
    stay = _missing(plan, study)
    rows = [row for row in plan.rows if row.table not in stay and _begun(row)]
    if rows:
        _write(replace(plan, rows=rows), study)
    for name, table in FIGURES.items():
        source = study_folder(study, scale) / "figures" / name / f"{table}.csv"
        if source.exists():
            shutil.copyfile(source, FOLDER / f"{study}-{name}.csv")
    return [
        f"{study}, {key}: stays as it is, {len(runs)} of its runs are not here ({runs[0]}, ...)"
        for key, runs in stay.items()
    ]


def _write(plan: Plan, study: str) -> None:
    """Write all that is kept of a plan's rows to the CSV, in the place of the same tables."""
    named = {key: table.title for key, table in plan.study.tables.items()}
    taken = dict.fromkeys(row.table for row in plan.rows)
    runs = pd.DataFrame(_runs(plan), columns=[*RUN, *METRICS, *ORIGIN, "run"])
    found = [line for row, run in _distilled(plan) for line in _terms(row, run)]
    terms = pd.DataFrame(found, columns=[*RUN, "term", *WEIGHED])
    _put_rows(study, results(plan), [*named.values()])
    _put(f"{study}-runs", runs, taken, [*named])
    _put(f"{study}-terms", terms, taken, [*named])


def _missing(plan: Plan, study: str) -> dict[str, list[str]]:
    """Return, by table, the runs that it was made of, and still would be, that are not here."""
    missing: dict[str, list[str]] = {}
    if not (FOLDER / f"{study}-runs.csv").exists():
        return missing
    kept = read(f"{study}-runs")
    made_of = set(zip(kept["table"], kept["run"], strict=True))
    for row in plan.rows:
        for run in row.runs.values():
            place = (row.table, str(run.directory))
            if place in made_of and not (run.directory / "metrics.json").exists():
                missing.setdefault(row.table, []).append(str(run.directory))
    return missing


def _begun(row: Row) -> bool:
    return any((run.directory / "metrics.json").exists() for run in row.runs.values())


def _put(name: str, found: pd.DataFrame, taken: Iterable[str], order: Sequence[str]) -> None:
    """Write a CSV of tables in their order, of which those that were taken are what was found."""
    if (FOLDER / f"{name}.csv").exists():
        before = read(name)
        others = before[~before["table"].isin([*taken]) & before["table"].isin(order)]
        found = pd.concat([found, others]) if len(others) else found
    place = {table: at for at, table in enumerate(order)}
    found = found.sort_values("table", key=lambda each: each.map(place), kind="stable")
    text = found.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    write_text(FOLDER / f"{name}.csv", text)


def _put_rows(study: str, rows: Sequence[ResultRow], order: Sequence[str]) -> None:
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
    """Return a CSV of the folder as it was written; an absent text is empty."""
    frame = pd.read_csv(FOLDER / f"{name}.csv", keep_default_na=False, na_values=[""])
    text = [column for column in frame if column == "setting" or frame[column].dtype == object]
    return frame.fillna(dict.fromkeys(text, "")).astype(dict.fromkeys(text, str))


def _runs(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield a line for each finished run of each row."""
    for row in plan.rows:
        for seed, run in row.runs.items():
            if (run.directory / "metrics.json").exists():
                yield {**_row(row, seed), **_figures(run), **_origin(run.directory)}


def _row(row: Row, seed: int) -> dict[str, Any]:
    values = (row.table, row.detector, row.method, row.setting, seed)
    return dict(zip(RUN, values, strict=True))


def _figures(run: Run) -> dict[str, float | None]:
    """Return the figures of a run in points."""
    found = Metrics.read(run.directory / "metrics.json")
    values = {name: getattr(found, name) for name in METRICS}
    return {name: None if value is None else POINTS * value for name, value in values.items()}


def _origin(directory: Path) -> dict[str, Any]:
    record = read_json(directory / "provenance.json")
    depends = record["inputs"]
    record |= {"data": depends.get("data"), "teacher_sha256": depends.get("teacher")}
    return {**{name: record.get(name) for name in ORIGIN}, "run": str(directory)}


def _distilled(plan: Plan) -> Iterator[tuple[Row, Run]]:
    """Yield every finished distilled run once."""
    seen = set()
    for row in plan.rows:
        for run in row.runs.values():
            done = (run.directory / "metrics.json").exists()
            if row.kind == "distilled" and done and run.name not in seen:
                seen.add(run.name)
                yield row, run


def _terms(row: Row, run: Run) -> Iterator[dict[str, Any]]:
    """Yield how much each term weighs in a run: share of the loss, gradients beside detection's."""
    found = read_log(run.directory / "log.jsonl").records
    probes = [
        record["gradient_norm"]
        for record in found
        if "gradient_norm" in record and record["step"] not in PROBE_STEPS
    ]
    for term in found[-1]["share"]:
        share = fmean(record["share"][term] for record in found)
        ratios = [_norm(probe[term]) / _norm(probe[DETECTION]) for probe in probes]
        weighed = (share, fmean(ratios[:PROBED]), fmean(ratios[PROBED:]), ratios[-1])
        name = {"term": term.removeprefix("loss_")}
        yield {**_row(row, run.seed), **name, **dict(zip(WEIGHED, weighed, strict=True))}


def _norm(levels: Sequence[float]) -> float:
    """Return the L2 norm over all levels of the neck."""
    return sum(each**2 for each in levels) ** 0.5
