"""Overview of the runs of a page: failures, common environment, and data sets."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from analysis.report.records import RunRecord, hardware
from kd.common.errors import UserError
from kd.common.results import RESULTS
from kd.data.check_report import read_report


def environment(records: Sequence[RunRecord]) -> list[tuple[str, dict[str, int]]]:
    """Return each part of the environment of finished runs, with the number of runs by value."""
    origins = [record.provenance for record in records if record.provenance]
    packages = [origin.get("packages") or {} for origin in origins]
    names = dict.fromkeys(name for versions in packages for name in versions)
    parts: list[tuple[str, list[Any]]] = [
        ("Commit", [origin.get("commit") for origin in origins]),
        ("Hardware", [hardware(origin) for origin in origins]),
        ("Python", [origin.get("python") for origin in origins]),
        *((name, [versions.get(name) for versions in packages]) for name in names),
    ]
    return [(label, counts) for label, values in parts if (counts := _counts(values))]


def _counts(values: Iterable[Any]) -> dict[str, int]:
    """Return the number of times that each value occurs, empty ones aside."""
    texts = [str(value) for value in values if value]
    return {text: texts.count(text) for text in dict.fromkeys(texts)}


def commits(records: Sequence[RunRecord]) -> list[str]:
    """Return the commits that finished runs were trained with."""
    return list(dict(environment(records)).get("Commit", {}))


class DatasetSummary(NamedTuple):
    """A data set as checked, with the fingerprints that its runs recorded."""

    name: str
    fingerprints: list[str]
    splits: list[tuple[str, int, int]]
    """Name, images, boxes."""


def datasets(records: Sequence[RunRecord]) -> list[DatasetSummary]:
    """Return the data sets of all runs."""
    fingerprints: dict[str, list[Any]] = {}
    for record in records:
        data = record.provenance.get("inputs", {}).get("data")
        fingerprints.setdefault(record.run.dataset, []).append(data)
    return [
        DatasetSummary(name, list(_counts(values)), split_sizes(name))
        for name, values in fingerprints.items()
    ]


def split_sizes(name: str) -> list[tuple[str, int, int]]:
    """Return name, images and boxes of the splits; none without a report of the data check."""
    try:
        splits = read_report(RESULTS / "checks" / f"{name}.json").splits
    except UserError:
        return []
    return [(split, size.images, size.boxes) for split, size in splits.items()]
