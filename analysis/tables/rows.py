"""The frame of a study's results: one line per row of a table, from the files of its runs.

CSV, Markdown, LaTeX, the figures of gains and the report are all made of this frame.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis.statistics.resampled import gain_interval
from analysis.statistics.seeds import (
    POINTS,
    holm,
    interval,
    paired_gains,
    sign_flip_test,
    summary,
    t_test,
)
from analysis.statistics.verdicts import verdict
from analysis.tables import costs
from analysis.tables.comparability import unlike
from kd.common.errors import UserError
from kd.common.files import read_json
from kd.evaluation.metrics import Metrics

FIGURES = ("AP", "AP50", "AP75", "APS", "APM", "APL")
"""Figures of every table; ``VOC07`` joins them where it is the headline of a row."""

BEFORE = (
    *("table", "group", "row", "kind", "teacher", "student", "setting", "scale", "metric"),
    *("seeds", "status"),
)
AFTER = (
    "stand_ins",
    "unlike",
    "differs",
    "note",
    "source",
    "runs",
    "baseline_runs",
    "teacher_runs",
)
WORDS = (*BEFORE, "verdict", *AFTER)
"""The columns of text; every other column is a number."""
GAIN = (
    *("std", "gain", "gain_std", "gain_low", "gain_high", "image_low", "image_high"),
    *("p", "p_exact", "p_holm", "verdict"),
)
COST = ("hours", "gpu_hours", "images_per_second", "memory_mb", "energy_kwh")


@dataclass(frozen=True)
class RowSpec:
    """One row of a published table and the runs that answer it.

    ``runs`` and ``baseline_runs`` map a seed to a run directory, ``teacher_runs`` are those that
    taught. ``published`` figures are in AP points.
    """

    table: str
    group: str
    label: str
    kind: Literal["teacher", "baseline", "distilled"]
    teacher: str
    student: str
    runs: Mapping[int, Path]
    baseline_runs: Mapping[int, Path] = field(default_factory=dict)
    teacher_runs: Sequence[Path] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    published_baseline: Mapping[str, float] = field(default_factory=dict)
    metric: str = "AP"
    """The headline: the figure of gain and published gain."""
    setting: str = ""
    scale: str = ""
    stand_ins: Sequence[str] = ()
    """What stands in at this scale for what the row names, such as ``shapes for coco2017``."""
    differs: str = ""
    """Why the published number's conditions are not ours even without stand-ins."""
    note: str = ""
    source: str = ""


def build(rows: Sequence[RowSpec]) -> pd.DataFrame:
    """Return one line per row: means over seeds in AP points, gains, statistics and cost.

    ``std`` and ``gain`` are of the figure that ``metric`` names, hours of all measured
    runs of the row together. UserError where a file of a run is not what it should be.
    """
    figures = list(dict.fromkeys([*FIGURES, *(row.metric for row in rows)]))
    published = [f"published_{name}" for name in (*figures, "gain")]
    columns = [*BEFORE, *figures, *GAIN, *published, *COST, *AFTER]
    lines = [_line(row, figures) for row in rows]
    _correct(lines)
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype({name: float for name in columns if name not in WORDS})


def _line(row: RowSpec, figures: Sequence[str]) -> dict[str, Any]:
    done = _measured(row.runs)
    means = {name: summary(_points(done, name).values()) for name in figures}
    published = {f"published_{name}": value for name, value in row.published.items()}
    return {
        "table": row.table,
        "group": row.group,
        "row": row.label,
        "kind": row.kind,
        "teacher": row.teacher,
        "student": row.student,
        "setting": row.setting,
        "scale": row.scale,
        "metric": row.metric,
        "seeds": f"{len(done)}/{len(row.runs)}",
        "status": _status(row.runs, done),
        **{name: mean.mean for name, mean in means.items()},
        "std": means[row.metric].std,
        **_gain(row, done),
        **published,
        "published_gain": _published_gain(row),
        **_cost(row.runs[seed] for seed in done),
        "stand_ins": "; ".join(row.stand_ins),
        "unlike": "; ".join(unlike(row.runs.values(), row.baseline_runs.values())),
        "differs": row.differs,
        "note": row.note,
        "source": row.source,
        "runs": _joined(row.runs.values()),
        "baseline_runs": _joined(row.baseline_runs.values()),
        "teacher_runs": _joined(row.teacher_runs),
    }


def _joined(paths: Iterable[Path]) -> str:
    return " ".join(map(str, paths))


def _measured(runs: Mapping[int, Path]) -> dict[int, Metrics]:
    """Return the metrics of each seed whose run has them."""
    files = {seed: path / "metrics.json" for seed, path in runs.items()}
    return {seed: Metrics.read(path) for seed, path in files.items() if path.exists()}


def _points(done: Mapping[int, Metrics], name: str) -> dict[int, float]:
    """Return figure ``name`` in AP points of each seed that defines it."""
    figures = {seed: getattr(metrics, name) for seed, metrics in done.items()}
    return {seed: POINTS * value for seed, value in figures.items() if value is not None}


def _gain(row: RowSpec, done: Mapping[int, Metrics]) -> dict[str, Any]:
    """Return what is said of a row's gain: pairs of runs of the same seed, and their images."""
    if row.kind != "distilled":
        return {"verdict": ""}
    baseline = _measured(row.baseline_runs)
    measured = {seed: row.runs[seed] for seed in done.keys() & baseline.keys()}
    gains = paired_gains(_points(done, row.metric), _points(baseline, row.metric))
    mean, over_seeds = summary(gains), interval(gains)
    over_images = gain_interval(measured, row.baseline_runs, row.metric)
    published = _published_gain(row)
    return {
        "gain": mean.mean,
        "gain_std": mean.std,
        **dict(zip(("gain_low", "gain_high"), over_seeds or (), strict=False)),
        **dict(zip(("image_low", "image_high"), over_images or (), strict=False)),
        "p": t_test(gains),
        "p_exact": sign_flip_test(gains),
        "verdict": verdict(mean.n, over_seeds, published, row.scale, not row.differs),
    }


def _correct(lines: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p: a family is the distilled rows of one table."""
    for table in dict.fromkeys(line["table"] for line in lines):
        family = [line for line in lines if line["table"] == table and line["kind"] == "distilled"]
        for line, corrected in zip(family, holm([line["p"] for line in family]), strict=True):
            line["p_holm"] = corrected


def _published_gain(row: RowSpec) -> float | None:
    if row.metric in row.published and row.metric in row.published_baseline:
        return row.published[row.metric] - row.published_baseline[row.metric]
    return None


def _cost(runs: Iterable[Path]) -> dict[str, float | None]:
    """Return what runs took together."""
    spent = costs.total(runs)
    return {name: getattr(spent, name) for name in COST} if spent.hours else {}


def _status(runs: Mapping[int, Path], done: Mapping[int, Metrics]) -> str:
    """Return ok, partial, not run, or failed, the last with every reason once."""
    if runs and len(done) == len(runs):
        return "ok"
    reports = [path / "failure.json" for seed, path in runs.items() if seed not in done]
    reasons = dict.fromkeys(_reason(path) for path in reports if path.exists())
    words = ["partial"] if done else []
    words += [f"failed: {'; '.join(reasons)}"] if reasons else []
    return ", ".join(words) or "not run"


def _reason(path: Path) -> str:
    """Return the first line of a failure's reason."""
    failure = read_json(path)
    if not isinstance(failure, dict) or not isinstance(failure.get("reason"), str):
        raise UserError(f"{path}: must hold an object with a text 'reason'")
    lines = failure["reason"].strip().splitlines()
    return lines[0] if lines else "no reason given"


def lines(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the lines of a frame, each mapping columns to values."""
    values = frame.to_numpy(dtype=object)
    return [dict(zip(frame.columns, line, strict=True)) for line in values]


def grouped(lines: Iterable[dict[str, Any]], column: str) -> dict[str, list[dict[str, Any]]]:
    """Return lines by what ``column`` says, in order of appearance."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        found.setdefault(line[column], []).append(line)
    return found


def to_csv(frame: pd.DataFrame) -> str:
    """Return every column of the frame; an absent value is an empty cell."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
