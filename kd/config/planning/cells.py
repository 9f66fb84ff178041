"""Cells of a table: a detector, a schedule and a pair, with the keys and settings of their rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kd.config.study_parts import Pair, Table, TeacherSeeds


@dataclass(frozen=True)
class TableCell:
    """A detector, a schedule and a pair of a table, whose rows are all methods."""

    key: str
    table: Table
    schedule: str
    detector: str
    pair: Pair
    seeds: range
    teacher_seeds: TeacherSeeds
    where: str

    def teacher_seed(self, seed: int) -> int:
        """Return the seed of the teachers from which the student of a seed learns."""
        return seed if self.teacher_seeds == "paired" else 0


def row_key(
    cell: TableCell, teacher: str, classifier: str, student: str, method: str, setting: str
) -> str:
    """Return the key of a row: table, schedule, detector, pair, method, and swept settings."""
    detector = cell.pair.teacher_detector
    if teacher and detector not in (None, cell.detector):
        teacher = f"{detector}-{teacher}"
    teachers = "+".join(dict.fromkeys(filter(None, (teacher, classifier))))
    pair = "-".join(filter(None, (teachers, student)))
    swept = setting.replace(", ", "+").replace(" ", "-")
    parts = (cell.key, cell.schedule, cell.detector, pair, method, swept)
    return "/".join(filter(None, parts))


def swept_settings(table: Table, method: str) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Yield the swept settings of each row of a method, as text and by term."""
    swept = {term: table.sweep[term] for term in method.split("+") if term in table.sweep}
    if not swept:
        yield "", table.settings
    for term, values in swept.items():
        for settings in _joint(values):
            text = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())
            yield text, {**table.settings, term: {**table.settings.get(term, {}), **settings}}


def _joint(values: Any) -> list[dict[str, Any]]:
    """Return a sweep's settings row by row."""
    if isinstance(values, list):
        return values
    return [{key: value} for key, key_values in values.items() for value in key_values]
