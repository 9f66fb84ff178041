"""What all runs of a page have in common or not: code, packages, hardware, data; and trouble."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from analysis.report.records import Record, hardware
from kd.common.errors import UserError
from kd.common.results import RESULTS
from kd.data.check_report import read_report


class Trouble(NamedTuple):
    """A run that has failed or was interrupted."""

    record: Record
    when: str
    what: str
    """The kind of error, as Python or Slurm calls it."""


def troubles(records: Iterable[Record]) -> list[Trouble]:
    """Return the runs that have ended without a result, with the reason that each left."""
    found = [record for record in records if record.kind == "failed"]
    return [
        Trouble(record, str(record.failure.get("time", "")), str(record.failure.get("kind", "")))
        for record in found
    ]


def environment(records: Sequence[Record]) -> list[tuple[str, dict[str, int]]]:
    """Return each part of the environment of finished runs, and how many runs have each value."""
    found = [record.provenance for record in records if record.provenance]
    packages = [each.get("packages") or {} for each in found]
    names = dict.fromkeys(name for each in packages for name in each)
    rows: list[tuple[str, list[Any]]] = [
        ("Commit", [each.get("commit") for each in found]),
        ("Hardware", [hardware(each) for each in found]),
        ("Python", [each.get("python") for each in found]),
        *((name, [each.get(name) for each in packages]) for name in names),
    ]
    return [(label, counted) for label, values in rows if (counted := _counted(values))]


def _counted(values: Iterable[Any]) -> dict[str, int]:
    listed = [str(value) for value in values if value]
    return {value: listed.count(value) for value in dict.fromkeys(listed)}


def commits(records: Sequence[Record]) -> list[str]:
    """Return the commits that finished runs were trained with."""
    rows: Mapping[str, dict[str, int]] = dict(environment(records))
    return list(rows.get("Commit", {}))


class Data(NamedTuple):
    """A data set, as its check and the runs that were trained on it knew it."""

    name: str
    fingerprints: list[str]
    splits: list[tuple[str, int, int]]
    """Name, images, boxes."""


def data(records: Sequence[Record]) -> list[Data]:
    """Return the data sets of all runs."""
    return [
        _data(name, [record for record in records if record.run.dataset == name])
        for name in dict.fromkeys(record.run.dataset for record in records)
    ]


def _data(name: str, records: Sequence[Record]) -> Data:
    prints = _counted(record.provenance.get("inputs", {}).get("data") for record in records)
    return Data(name, list(prints), split_sizes(name))


def split_sizes(name: str) -> list[tuple[str, int, int]]:
    """Return name, images and boxes of the splits, none where the check left no report."""
    try:
        splits = read_report(RESULTS / "checks" / f"{name}.json").splits
    except UserError:
        return []
    return [(split, size.images, size.boxes) for split, size in splits.items()]
