"""The provenance of every number, which the page embeds once as data of its script."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.report.grids import TableView
from analysis.report.records import RunRecord, ValuePool, embedded
from analysis.statistics.seeds import Interval
from analysis.tables.formatting import metric_title, number
from analysis.tables.rows import ResultRow
from kd.config.plan import Plan, Row


def data(
    planned: Plan,
    results: Sequence[ResultRow],
    views: Sequence[TableView],
    records: Mapping[str, RunRecord],
) -> dict[str, Any]:
    """Return rows, runs and the values that runs share, as plain data."""
    indices = {directory: index for index, directory in enumerate(records)}
    pool = ValuePool()
    runs = [embedded(record, indices, pool) for record in records.values()]
    rows = {
        row.number: _row(planned.rows[row.number], results[row.number], view, indices)
        for view in views
        for row in view.rows
    }
    return {"rows": [rows[number] for number in sorted(rows)], "runs": runs, "pool": pool.values}


def _row(
    row: Row, result: ResultRow, table: TableView, indices: Mapping[str, int]
) -> dict[str, Any]:
    models = " \u2192 ".join(filter(None, (result.teacher, result.student)))
    return {
        "key": row.key,
        "title": result.label,
        "where": " \u00b7 ".join(filter(None, (table.name, result.group, models))),
        "metric": result.metric,
        "seeds": [
            [seed, indices[str(run.directory)], _baseline(row, seed, indices)]
            for seed, run in row.runs.items()
        ],
        "labels": {column.key: column.label for column in table.columns},
        "published": [[metric_title(name), number(value)] for name, value in row.published.items()],
        "facts": _facts(result),
    }


def _baseline(row: Row, seed: int, indices: Mapping[str, int]) -> int | None:
    run = row.baselines.get(seed)
    return indices[str(run.directory)] if run else None


def _facts(row: ResultRow) -> list[tuple[str, str]]:
    """Return labels and texts of the statistics and remarks of a row, without empty ones."""
    published_gain = row.published_gain
    facts = [
        *_gain_facts(row),
        ("Published gain", "" if published_gain is None else number(published_gain, signed=True)),
        ("Verdict", row.verdict),
        ("Failed", "; ".join(row.failures)),
        ("Not comparable", "; ".join(row.mismatches)),
        ("Published in", row.source),
        ("Published under other conditions", "; ".join(row.differs)),
        ("Stand-ins", ", ".join(row.stand_ins)),
        ("Note", "; ".join(row.notes)),
    ]
    return [(label, text) for label, text in facts if text]


def _gain_facts(row: ResultRow) -> list[tuple[str, str]]:
    gain = row.gain
    if gain is None:
        return []
    return [
        (f"Gain in {metric_title(row.metric)}", number(gain.mean, gain.std, signed=True)),
        ("Interval over seeds", _interval_text(gain.over_seeds)),
        ("Interval over images", _interval_text(gain.over_images)),
        ("p, t test", _p_text(gain.p)),
        ("p, exact over all signs", _p_text(gain.p_exact)),
        ("p, corrected by Holm", _p_text(gain.p_holm)),
    ]


def _interval_text(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{number(interval.low, signed=True)} to {number(interval.high, signed=True)}"


def _p_text(p: float | None) -> str:
    return "" if p is None else f"{p:.3g}"
