"""``table.csv``: result rows as text, which joins lists into cells and splits them."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.statistics.equivalence import HELPS, HURTS, NO_GAIN, UNDETERMINED, Word
from analysis.statistics.gains import Gain
from analysis.statistics.joint import Probability
from analysis.statistics.seeds import Interval
from analysis.tables.cells import CellFacts
from analysis.tables.rows import MEASURES, METRICS, ResultRow
from kd.records.latency import BatchLatency, Conditions, Latency
from kd.records.model_size import ModelSize
from kd.resources.usage import Usage

BETWEEN = "; "
"""Separator of the clauses of a cell."""
DESCRIPTION = ("table", "group", "row", "kind", "teacher", "student", "setting", "scale", "metric")
INTERVALS = ("simultaneous", "pooled", "moderated", "joint", "over_seeds", "over_images")
TESTS = ("p_adjusted", "p_model", "q", "p_equivalence", "p", "p_exact")
"""Intervals and p values of a gain, by attribute."""
GAIN = (
    *("gain", "gain_std", "judgment"),
    *(f"{name}_{end}" for name in INTERVALS for end in Interval._fields),
    *TESTS,
    *("probability", "probability_low", "probability_high"),
)
COUNTS = ("residual_df", "planned_rows", "table_rows", "table_cells")
"""Whole numbers of ``CellFacts``."""
LEVEL = ("mean_low", "mean_high", "level_verdict")
WORDS: dict[str, Word] = {word: word for word in (HELPS, HURTS, NO_GAIN, UNDETERMINED)}
LISTS = ("stand_ins", "unlike", "differs", "note")
SIZE = {
    "parameters": "parameters",
    "multiply_adds": "multiply_adds",
    "weight_bytes": "weight_bytes",
    "width": "test_image_width",
    "height": "test_image_height",
}
"""Columns of the size of a row's detector, by field."""
CONDITIONS = {name: f"inference_{name}" for name in Conditions._fields}
BATCHES = {
    "batch": "inference_batches",
    "median_ms": "inference_ms",
    "p95_ms": "inference_p95_ms",
    "preprocessing_ms": "preprocessing_ms",
    "iterations": "inference_iterations",
}
"""Columns of the inference latency of a row's detector, by field; those of batches have a number
for each batch size, with spaces between them."""
LATENCY = (*CONDITIONS.values(), *BATCHES.values(), "inference_measured")
PATHS = ("runs", "baseline_runs", "teacher_runs")
LAST = {"selection": "", "split": "test", "early_split": ""}
"""Last columns, and their values in tables of earlier versions without them."""


def to_csv(rows: Sequence[ResultRow]) -> str:
    """Return rows as CSV; an absent value is an empty cell."""
    metrics = dict.fromkeys([*METRICS, *(row.metric for row in rows)])
    measures = [name for name in MEASURES if any(name in row.metrics for row in rows)]
    columns = [
        *(*DESCRIPTION, "seeds", "status", *metrics, *measures, "std", *LEVEL, *GAIN, "verdict"),
        *(*(f"published_{name}" for name in metrics), "published_gain"),
        *CellFacts._fields,
        *(*Usage._fields, *SIZE.values(), *LATENCY, *LISTS, "source", *PATHS, *LAST),
    ]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    return stream.getvalue()


def _cells(row: ResultRow) -> dict[str, str]:
    """Return the text of a row by column; absent numbers have no entry."""
    numbers = {
        **row.metrics,
        "std": row.std,
        **_ends("mean", row.mean_interval),
        **(_gain_numbers(row.gain) if row.gain else {}),
        **{f"published_{name}": value for name, value in row.published.items()},
        "published_gain": row.published_gain,
        **(row.cell._asdict() if row.cell else {}),
        **(row.usage._asdict() if row.usage else {}),
    }
    size = row.size._asdict() if row.size else {}
    lists = (row.stand_ins, row.mismatches, row.differs, row.notes)
    paths = (row.runs, row.baseline_runs, row.teacher_runs)
    return {
        **{name: getattr(row, "label" if name == "row" else name) for name in DESCRIPTION},
        **{
            name: getattr(row, name)
            for name in ("seeds", "status", "verdict", "level_verdict", "source", *LAST)
        },
        "judgment": row.gain.judgment if row.gain else "",
        **{name: f"{value:.6g}" for name, value in numbers.items() if value is not None},
        **{SIZE[name]: str(count) for name, count in size.items()},
        **(_latency_cells(row.latency) if row.latency else {}),
        **{name: BETWEEN.join(clauses) for name, clauses in zip(LISTS, lists, strict=True)},
        **{name: " ".join(map(str, runs)) for name, runs in zip(PATHS, paths, strict=True)},
    }


def _gain_numbers(gain: Gain) -> dict[str, float | None]:
    """Return the numbers of a gain by column."""
    probability = gain.probability
    return {
        "gain": gain.mean,
        "gain_std": gain.std,
        **{
            column: end
            for name in INTERVALS
            for column, end in _ends(name, getattr(gain, name)).items()
        },
        **{name: getattr(gain, name) for name in TESTS},
        "probability": probability.value if probability else None,
        **_ends("probability", probability.interval if probability else None),
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    """Return the ends of an interval by column."""
    ends = interval._asdict() if interval else {}
    return {f"{name}_{end}": value for end, value in ends.items()}


def _latency_cells(latency: Latency) -> dict[str, str]:
    """Return a latency as text by column."""
    conditions = latency.conditions._asdict().items()
    return {
        **{CONDITIONS[name]: str(value) for name, value in conditions if value is not None},
        **{
            column: " ".join(f"{getattr(one, name):.6g}" for one in latency.batches)
            for name, column in BATCHES.items()
        },
        "inference_measured": latency.measured,
    }


def read_csv(path: Path) -> list[ResultRow]:
    """Read the rows of a ``table.csv``; none if an earlier version wrote it with other columns."""
    with open(path, newline="", encoding="utf-8") as stream:
        lines = csv.DictReader(stream)
        numbers = {*GAIN, *LEVEL, *CellFacts._fields}
        required = {*DESCRIPTION, "seeds", "status", "verdict", *numbers, *LISTS, "source", *PATHS}
        return [_row(line) for line in lines] if required <= {*(lines.fieldnames or ())} else []


def _row(line: Mapping[str, str]) -> ResultRow:
    measured, planned = line["seeds"].split("/")
    headed = [name for name in line if f"published_{name}" in line and name != "gain"]
    metrics = [*headed, *(name for name in MEASURES if name in line)]
    stand_ins, mismatches, differs, notes = (split_clauses(line[name]) for name in LISTS)
    runs, baseline_runs, teacher_runs = (tuple(map(Path, line[name].split())) for name in PATHS)
    return ResultRow(
        **_texts(line),
        metrics={name: float(line[name]) for name in metrics if line[name]},
        published={
            name: float(line[f"published_{name}"]) for name in headed if line[f"published_{name}"]
        },
        stand_ins=stand_ins,
        differs=differs,
        notes=notes,
        seeds_measured=int(measured),
        seeds_planned=int(planned),
        failures=split_clauses(line["status"].partition("failed: ")[2]),
        std=_number(line["std"]),
        mean_interval=_interval(line, "mean"),
        gain=_gain(line),
        cell=_cell(line),
        published_gain=_number(line["published_gain"]),
        usage=_usage(line),
        size=_size(line),
        latency=_latency(line),
        mismatches=mismatches,
        runs=runs,
        baseline_runs=baseline_runs,
        teacher_runs=teacher_runs,
    )


def _texts(line: Mapping[str, str]) -> dict[str, Any]:
    texts = {name: line[name] for name in (*DESCRIPTION, "verdict", "level_verdict", "source")}
    last = {name: line.get(name, value) for name, value in LAST.items()}
    return {"label": texts.pop("row"), **texts, **last}


def _gain(line: Mapping[str, str]) -> Gain | None:
    if not line["gain"]:
        return None
    values: dict[str, Any] = {
        **{name: _interval(line, name) for name in INTERVALS},
        **{name: _number(line[name]) for name in TESTS},
    }
    probability, ends = _number(line["probability"]), _interval(line, "probability")
    if probability is not None and ends is not None:
        values["probability"] = Probability(probability, ends)
    word = WORDS.get(line["judgment"], UNDETERMINED)
    return Gain(float(line["gain"]), _number(line["gain_std"]), judgment=word, **values)


def _cell(line: Mapping[str, str]) -> CellFacts | None:
    if not line["residual_std"]:
        return None
    return CellFacts(
        residual_std=float(line["residual_std"]),
        equal_gains_p=_number(line["equal_gains_p"]),
        equal_runs_p=_number(line["equal_runs_p"]),
        **{name: int(line[name]) for name in COUNTS},
    )


def _interval(line: Mapping[str, str], name: str) -> Interval | None:
    low, high = (_number(line[f"{name}_{end}"]) for end in Interval._fields)
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


def _latency(line: Mapping[str, str]) -> Latency | None:
    # Tables of earlier versions have no columns of latency.
    if not line.get(BATCHES["batch"]):
        return None
    conditions: dict[str, Any] = {name: line[column] for name, column in CONDITIONS.items()}
    numbers = {name: int(conditions[name]) for name in ("threads", "width", "height")
               if conditions[name]}  # fmt: skip
    columns = zip(*(line[column].split() for column in BATCHES.values()), strict=True)
    batches = (dict(zip(BATCHES, map(float, texts), strict=True)) for texts in columns)
    return Latency(
        Conditions(**conditions | {"threads": None} | numbers),
        tuple(
            BatchLatency(
                int(one["batch"]),
                one["median_ms"],
                one["p95_ms"],
                one["preprocessing_ms"],
                int(one["iterations"]),
            )
            for one in batches
        ),
        line["inference_measured"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None


def split_clauses(text: str) -> tuple[str, ...]:
    """Return the clauses of a cell."""
    return tuple(clause for clause in text.split(BETWEEN) if clause)
