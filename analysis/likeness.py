"""Whether runs that a table compares were made alike, by their own records."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from kd.files import read_json

OTHER_DATA = "trained on other data than its baseline: the fingerprints differ"
OTHER_TEACHER = "taught by other weights than its teacher has now, which was trained again since"


def unlike(runs: Iterable[Path], baselines: Iterable[Path]) -> list[str]:
    """Return in words what sets runs apart from their baselines and their teachers.

    What has no record yet is taken for alike.
    """
    records = [_record(run) for run in runs]
    alone = [_record(run) for run in baselines]
    data = {record["data"] for record in chain(records, alone) if record.get("data")}
    found = [OTHER_DATA] if len(data) > 1 else []
    return found + ([OTHER_TEACHER] if any(map(_taught_by_others, records)) else [])


def _taught_by_others(record: dict[str, Any]) -> bool:
    return any(
        record[f"{kind}_sha256"] != now
        for kind in ("teacher", "classifier")
        if kind in record and (now := _record(Path(record[kind]).parent).get("weights_sha256"))
    )


def _record(run: Path) -> dict[str, Any]:
    path = run / "provenance.json"
    return read_json(path) if path.exists() else {}
