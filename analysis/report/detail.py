"""The data that the page embeds once: where every number of its tables comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.report.grids import RowView, TableView
from analysis.report.intervals import has
from analysis.report.records import Pool, Record, embedded
from analysis.tables.formatting import name_of, number
from kd.config.plan import Plan, Row


def data(
    planned: Plan, views: Sequence[TableView], records: Mapping[str, Record]
) -> dict[str, Any]:
    """Return rows, runs and the values that runs share, as plain data."""
    places = {directory: place for place, directory in enumerate(records)}
    pool = Pool()
    runs = [embedded(record, places, pool) for record in records.values()]
    rows = {
        row.number: _row(planned.rows[row.number], row, view, places)
        for view in views
        for row in view.rows
    }
    return {"rows": [rows[place] for place in sorted(rows)], "runs": runs, "pool": pool.values}


def _row(row: Row, view: RowView, table: TableView, places: Mapping[str, int]) -> dict[str, Any]:
    line = view.line
    models = " \u2192 ".join(filter(None, (line["teacher"], line["student"])))
    return {
        "title": line["row"],
        "where": " \u00b7 ".join(filter(None, (table.name, line["group"], models))),
        "metric": line["metric"],
        "seeds": [
            [seed, places[str(run.directory)], _baseline(row, seed, places)]
            for seed, run in row.runs.items()
        ],
        "labels": {column.key: column.label for column in table.columns},
        "published": [[name_of(name), number(value)] for name, value in row.published.items()],
        "facts": _facts(view, line),
    }


def _baseline(row: Row, seed: int, places: Mapping[str, int]) -> int | None:
    run = row.baselines.get(seed)
    return places[str(run.directory)] if run else None


def _facts(view: RowView, line: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of a row as a whole, in words."""
    rows = [
        (f"Gain in {name_of(line['metric'])}", number(line["gain"], line["gain_std"], signed=True)
         if has(line, "gain") else ""),
        ("Interval over seeds", _interval(line, "gain")),
        ("Interval over images", _interval(line, "image")),
        ("p, t test", _p(line, "p")),
        ("p, all signs", _p(line, "p_exact")),
        ("p, corrected (Holm)", _p(line, "p_holm")),
        ("Published gain", number(line["published_gain"], signed=True)
         if has(line, "published_gain") else ""),
        ("Verdict", view.verdict),
        ("Failed", view.reason),
        ("Not alike", line["unlike"]),
        ("Published in", line["source"]),
        ("Published under other conditions", line["differs"]),
        ("At this scale", line["stand_ins"].replace(";", ",")),
        ("Note", line["note"]),
    ]  # fmt: skip
    return [(label, str(text)) for label, text in rows if text]


def _interval(line: Mapping[str, Any], name: str) -> str:
    low, high = f"{name}_low", f"{name}_high"
    if not (has(line, low) and has(line, high)):
        return ""
    return f"{number(line[low], signed=True)} to {number(line[high], signed=True)}"


def _p(line: Mapping[str, Any], name: str) -> str:
    return f"{line[name]:.3g}" if has(line, name) else ""
