"""``table.csv``: result rows as text, which joins lists into cells and splits them."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval
from analysis.tables.rows import METRICS, ResultRow
from kd.records.model_size import ModelSize
from kd.resources.usage import Usage

BETWEEN = "; "
"""Separator of the clauses of a cell."""
DESCRIPTION = ("table", "group", "row", "kind", "teacher", "student", "setting", "scale", "metric")
GAIN = (
    *("gain", "gain_std", "gain_low", "gain_high", "image_low", "image_high"),
    *("p", "p_exact", "p_holm"),
)
LISTS = ("stand_ins", "unlike", "differs", "note")
SIZE = {
    "parameters": "parameters",
    "multiply_adds": "multiply_adds",
    "weight_bytes": "weight_bytes",
    "width": "test_image_width",
    "height": "test_image_height",
}
"""Columns of the size of a row's detector, by field."""
PATHS = ("runs", "baseline_runs", "teacher_runs")


def to_csv(rows: Sequence[ResultRow]) -> str:
    """Return rows as CSV; an absent value is an empty cell."""
    metrics = dict.fromkeys([*METRICS, *(row.metric for row in rows)])
    columns = [
        *(*DESCRIPTION, "seeds", "status", *metrics, "std", *GAIN, "verdict"),
        *(*(f"published_{name}" for name in metrics), "published_gain"),
        *(*Usage._fields, *SIZE.values(), *LISTS, "source", *PATHS, "selection"),
    ]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    return stream.getvalue()


def _cells(row: ResultRow) -> dict[str, str]:
    """Return the text of a row by column; absent numbers have no entry."""
    gain, usage = row.gain, row.usage
    numbers = {
        **row.metrics,
        "std": row.std,
        **(dict(zip(GAIN, _gain_numbers(gain), strict=True)) if gain else {}),
        **{f"published_{name}": value for name, value in row.published.items()},
        "published_gain": row.published_gain,
        **(usage._asdict() if usage else {}),
    }
    size = row.size._asdict() if row.size else {}
    lists = (row.stand_ins, row.mismatches, row.differs, row.notes)
    paths = (row.runs, row.baseline_runs, row.teacher_runs)
    return {
        **{name: getattr(row, "label" if name == "row" else name) for name in DESCRIPTION},
        **{
            name: getattr(row, name)
            for name in ("seeds", "status", "verdict", "source", "selection")
        },
        **{name: f"{value:.6g}" for name, value in numbers.items() if value is not None},
        **{SIZE[name]: str(count) for name, count in size.items()},
        **{name: BETWEEN.join(clauses) for name, clauses in zip(LISTS, lists, strict=True)},
        **{name: " ".join(map(str, runs)) for name, runs in zip(PATHS, paths, strict=True)},
    }


def _gain_numbers(gain: Gain) -> tuple[float | None, ...]:
    """Return the values of the columns ``GAIN``."""
    over_seeds, over_images = gain.over_seeds or (None, None), gain.over_images or (None, None)
    return (gain.mean, gain.std, *over_seeds, *over_images, gain.p, gain.p_exact, gain.p_holm)


def read_csv(path: Path) -> list[ResultRow]:
    """Read the rows of a ``table.csv``; none if an earlier version wrote it with other columns."""
    with open(path, newline="", encoding="utf-8") as stream:
        lines = csv.DictReader(stream)
        required = {*DESCRIPTION, "seeds", "status", "verdict", *GAIN, *LISTS, "source", *PATHS}
        return [_row(line) for line in lines] if required <= {*(lines.fieldnames or ())} else []


def _row(line: Mapping[str, str]) -> ResultRow:
    measured, planned = line["seeds"].split("/")
    metrics = [name for name in line if f"published_{name}" in line and name != "gain"]
    stand_ins, mismatches, differs, notes = (split_clauses(line[name]) for name in LISTS)
    runs, baseline_runs, teacher_runs = (tuple(map(Path, line[name].split())) for name in PATHS)
    return ResultRow(
        **_texts(line),
        metrics={name: float(line[name]) for name in metrics if line[name]},
        published={
            name: float(line[f"published_{name}"]) for name in metrics if line[f"published_{name}"]
        },
        stand_ins=stand_ins,
        differs=differs,
        notes=notes,
        seeds_measured=int(measured),
        seeds_planned=int(planned),
        failures=split_clauses(line["status"].partition("failed: ")[2]),
        std=_number(line["std"]),
        gain=_gain(line),
        published_gain=_number(line["published_gain"]),
        usage=_usage(line),
        size=_size(line),
        mismatches=mismatches,
        runs=runs,
        baseline_runs=baseline_runs,
        teacher_runs=teacher_runs,
    )


def _texts(line: Mapping[str, str]) -> dict[str, Any]:
    texts = {name: line[name] for name in (*DESCRIPTION, "verdict", "source")}
    # Tables of earlier versions have no column "selection".
    return {"label": texts.pop("row"), **texts, "selection": line.get("selection", "")}


def _gain(line: Mapping[str, str]) -> Gain | None:
    if not line["gain"]:
        return None
    _, std, low, high, image_low, image_high, *p = (_number(line[name]) for name in GAIN)
    return Gain(
        float(line["gain"]), std, _interval(low, high), _interval(image_low, image_high), *p
    )


def _interval(low: float | None, high: float | None) -> Interval | None:
    return None if low is None or high is None else Interval(low, high)


def _usage(line: Mapping[str, str]) -> Usage | None:
    hours, gpu_hours, images_per_second, memory_mb, energy_kwh = (
        _number(line[name]) for name in Usage._fields
    )
    if hours is None or gpu_hours is None:
        return None
    memory = None if memory_mb is None else int(memory_mb)
    return Usage(hours, gpu_hours, images_per_second, memory, energy_kwh)


def _size(line: Mapping[str, str]) -> ModelSize | None:
    # Tables of earlier versions have no columns of sizes.
    if not line.get("parameters"):
        return None
    return ModelSize(**{name: int(line[column]) for name, column in SIZE.items()})


def _number(text: str) -> float | None:
    return float(text) if text else None


def split_clauses(text: str) -> tuple[str, ...]:
    """Return the clauses of a cell."""
    return tuple(clause for clause in text.split(BETWEEN) if clause)
