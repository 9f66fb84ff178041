"""The provenance of every number, which the page embeds once as data of its script."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.report.grids import TableView
from analysis.report.records import RunRecord, ValuePool, embedded
from analysis.statistics.joint import Probability
from analysis.tables.formatting import ends_text, metric_title, number
from analysis.tables.measures import measure_facts
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
    mean = row.mean_interval
    facts = [
        ("95 % interval of the mean", f"{number(mean.low)} to {number(mean.high)}" if mean else ""),
        *_gain_facts(row),
        *measure_facts(row),
        ("Published gain", "" if published_gain is None else number(published_gain, signed=True)),
        ("Verdict on the published gain", row.verdict),
        (f"Verdict on the published {metric_title(row.metric)}", row.level_verdict),
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
        ("Judgment", gain.judgment),
        ("Interval over seeds, all planned rows", ends_text(gain.simultaneous)),
        ("The same, by one variance of all rows", ends_text(gain.pooled)),
        ("The same, by a moderated variance", ends_text(gain.moderated)),
        ("Interval over seeds and images", ends_text(gain.joint)),
        ("Interval over seeds of this row alone", ends_text(gain.over_seeds)),
        ("Interval over images", ends_text(gain.over_images)),
        ("Probability that a new student is better", _probability_text(gain.probability)),
        ("p, all planned rows", _p_text(gain.p_adjusted)),
        ("p, this gain alone", _p_text(gain.p_model)),
        ("q, all tables of the page (screening)", _p_text(gain.q)),
        ("p of half a point or more, all planned rows", _p_text(gain.p_equivalence)),
        ("p, t test of this row alone", _p_text(gain.p)),
        ("p, exact over all signs", _p_text(gain.p_exact)),
    ]


def _probability_text(probability: Probability | None) -> str:
    if probability is None:
        return ""
    low, high = probability.interval
    return f"{probability.value:.2f} ({low:.2f} to {high:.2f})"


def _p_text(p: float | None) -> str:
    return "" if p is None else f"{p:.3g}"
