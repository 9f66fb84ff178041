"""Lines of published numbers, as they stand in ``configs/published`` and in the reference."""

import csv
from pathlib import Path

PUBLISHED = Path(__file__).parents[1] / "configs" / "published"
ABSENT = PUBLISHED / "not_reproduced.csv"


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def answered() -> dict[str, list[dict[str, str]]]:
    """Lines that a study answers, by the file's name."""
    return {
        path.name: lines(path) for path in sorted(PUBLISHED.glob("*.csv")) if path != ABSENT
    }
