"""Selection of a study's rows: by table, detector, method, or parts of a row's key."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt

from kd.common.errors import UserError, suggest
from kd.common.lists import split_list
from kd.common.schema import Part
from kd.config.planning.control import CONTROL
from kd.config.study_parts import Study, Table, TeacherSeeds, TeacherSource

if TYPE_CHECKING:
    from kd.config.plan import Row

ROW_KEYS = ("detectors", "methods", "rows")
"""Keys that select rows within a table."""
SELECTION = ("tables", *ROW_KEYS)


def _split_names(value: Any) -> Any:
    return split_list(value) if isinstance(value, str) else value


Names = Annotated[
    Annotated[list[str], Field(min_length=1)] | None,
    BeforeValidator(_split_names),
]
"""Names in a list, or in a text with commas or spaces."""


class StudyOptions(Part):
    """The rows of a study to run, and changes of its seeds and schedules."""

    seeds: PositiveInt | None = None
    """Number of seeds; null for the number that the study or its table sets."""
    teacher_seeds: TeacherSeeds | None = None
    """``first``: all students learn from the teacher of seed 0. ``paired``: each learns from the
    teacher of its seed. null for what the study or its table sets."""
    teachers: TeacherSource = "trained"
    """``trained``: all teachers are trained, but those with a ``checkpoint``. ``zoo``: those that
    equal a detector of mmdet's model zoo in architecture, schedule and data are imported from
    there (docs/how-to/published-teachers.md). ``zoo_any_lr``: also those that were trained with
    another learning rate."""
    tables: Names = None
    """Tables of the study to run; null for all of them."""
    detectors: Names = None
    """Detectors of the rows to run; null for all of them."""
    methods: Names = None
    """Methods of the rows to run, as the study names them; ``same_time`` for controls; null for all
    of them."""
    rows: Names = None
    """Parts of the keys of the rows to run, such as ``table1/retinanet/pfi``; null for all of them.
    ``kd plan`` prints the keys."""
    schedule: str | None = None
    """Changes of the schedules of all detector trainings, such as ``lr=0.005,epochs=6``."""

    @property
    def selection(self) -> dict[str, list[str]]:
        """The keys that select rows or tables, with their names."""
        return {key: names for key in SELECTION if (names := getattr(self, key))}

    @property
    def selected_rows(self) -> str:
        """The selection within a table as text, such as ``methods pfi``; empty if there is none."""
        of_rows = {key: names for key, names in self.selection.items() if key in ROW_KEYS}
        return "; ".join(f"{key} {', '.join(names)}" for key, names in of_rows.items())


UNCHANGED = StudyOptions()
"""Options of a whole study with its own seeds and schedules."""


def check_names(options: StudyOptions, name: str, study: Study) -> None:
    """Raise UserError if a table, detector or method is not one of the study's."""
    for key in options.tables or []:
        if key not in study.tables:
            raise UserError(f"study '{name}' has no table '{key}'; {suggest(key, study.tables)}")
    tables = [study.tables[key] for key in options.tables or study.tables]
    place = f"tables {', '.join(options.tables)} of study" if options.tables else "study"
    valid = {
        "detector": {detector for table in tables for detector in table.detectors},
        "method": {"teacher", "baseline"}.union(*(_methods(table) for table in tables)),
    }
    for noun, names in valid.items():
        for unknown in getattr(options, f"{noun}s") or []:
            if unknown not in names:
                raise UserError(
                    f"{noun}s: no {noun} '{unknown}' in {place} '{name}'; {suggest(unknown, names)}"
                )


def _methods(table: Table) -> list[str]:
    """Return the methods of a table, with its control of equal time."""
    return [*table.methods, *([CONTROL] if table.has_control else [])]


def selected(rows: Sequence["Row"], options: StudyOptions, name: str) -> list["Row"]:
    """Return the selected rows of a study with their teachers and baselines, in order.

    UserError if no row is selected, or if an entry of ``rows`` matches none.
    """
    if not options.selected_rows:
        return list(rows)
    for entry in options.rows or []:
        _check_entry(entry, [row.key for row in rows], name)
    picked = [row for row in rows if _is_selected(row, options)]
    if not picked:
        words = " ".join(f"{key}={','.join(names)}" for key, names in options.selection.items())
        raise UserError(
            f"study '{name}' has no row with all of {words}; `kd plan {name}` lists its rows"
        )
    return [row for row in rows if any(row is other or _is_needed(row, other) for other in picked)]


def _is_selected(row: "Row", options: StudyOptions) -> bool:
    return (
        (not options.detectors or row.detector in options.detectors)
        and (not options.methods or row.method in options.methods)
        and (not options.rows or any(_matches(row.key, entry) for entry in options.rows))
    )


def _is_needed(row: "Row", other: "Row") -> bool:
    """Return True if ``row`` is the baseline or the teacher of a compared row of its table."""
    if not other.compared or (row.table, row.detector) != (other.table, other.detector):
        return False
    if row.kind == "baseline":
        return (row.schedule, row.student) == (other.schedule, other.student)
    teachers = {run.teacher.name for run in other.runs.values() if run.teacher}
    return row.kind == "teacher" and any(run.name in teachers for run in row.runs.values())


def _matches(key: str, entry: str) -> bool:
    """Return True if a row's key has the parts of an entry, in their order."""
    parts = iter(key.split("/"))
    return all(part in parts for part in _parts(entry))


def _parts(entry: str) -> list[str]:
    return [part for part in entry.split("/") if part]


def _check_entry(entry: str, keys: Sequence[str], name: str) -> None:
    """Raise UserError if no row's key has the parts of an entry."""
    if any(_matches(key, entry) for key in keys):
        return
    valid = {part for key in keys for part in key.split("/")}
    unknown = [part for part in _parts(entry) if part not in valid]
    if unknown:
        nearest = get_close_matches(unknown[0], sorted(valid), n=3, cutoff=0.0)
        problem = f"has '{unknown[0]}' in its key"
    else:
        nearest = sorted(keys, key=lambda key: -_common(key, entry))[:3]
        problem = f"has the parts of '{entry}' in this order"
    raise UserError(
        f"rows: no row of study '{name}' {problem}; nearest: "
        f"{', '.join(nearest)}; `kd plan {name}` lists the keys"
    )


def _common(key: str, entry: str) -> int:
    """Return the number of parts that a key and an entry share."""
    return len({*key.split("/")} & {*_parts(entry)})
