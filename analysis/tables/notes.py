"""Notes under a table: its signs, stand-ins, sources, and remarks on rows with their marks."""

from collections.abc import Sequence
from typing import NamedTuple

from analysis.statistics.seeds import SIGNIFICANT
from analysis.tables.formatting import IMAGES, STAR
from analysis.tables.rows import ResultRow

MARKS = "†‡§¶"
ONE_TEACHER = (
    "All seeds of a row have the same teacher: intervals over seeds leave out the variation "
    "between teachers."
)
PAIRED_TEACHERS = (
    "Each seed of a row has its own teacher: intervals over seeds include the variation between "
    "teachers."
)


class Remark(NamedTuple):
    """Clauses that hold for the same rows of a table, and the mark of these rows."""

    mark: str
    clauses: tuple[str, ...]

    def __str__(self) -> str:
        """Return the remark as a sentence after its mark."""
        text = "; ".join(self.clauses)
        return f"{self.mark} {text[0].upper()}{text[1:].rstrip('.')}."


def remarks(rows: Sequence[ResultRow]) -> list[Remark]:
    """Return the remarks of a table, in order of appearance, marked †, ‡, ..."""
    usual = _usual_source(rows)
    rows_of: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        for clause in _clauses(row, usual):
            rows_of.setdefault(clause, []).append(index)
    together: dict[tuple[int, ...], list[str]] = {}
    for clause, indices in rows_of.items():
        together.setdefault(tuple(indices), []).append(clause)
    turns = (divmod(rank, len(MARKS)) for rank in range(len(together)))
    marks = (MARKS[index] * (turn + 1) for turn, index in turns)
    return [
        Remark(mark, tuple(clauses)) for mark, clauses in zip(marks, together.values(), strict=True)
    ]


def marks_of(row: ResultRow, remarks: Sequence[Remark]) -> str:
    """Return the marks of a row, given the remarks of its table."""
    clauses = _clauses(row)
    return ",".join(remark.mark for remark in remarks if remark.clauses[0] in clauses)


def notes(rows: Sequence[ResultRow]) -> list[str]:
    """Return the lines under a table."""
    table_remarks = remarks(rows)
    sources = _sources(rows, table_remarks)
    signs = [*_signs(rows), *_teachers(rows)]
    return [*_selection(rows), *signs, *stand_ins(rows), *sources, *map(str, table_remarks)]


def _selection(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line that marks a part of a table; none for a whole table."""
    if not rows[0].selection:
        return []
    text = f"A part of the table: selected rows ({rows[0].selection}) with teachers and baselines."
    tested = any(row.gain and row.gain.p_holm is not None for row in rows)
    return [text + " The correction covers these rows only." * tested]


def _teachers(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line on the seeds of teachers; none if no distilled row has several seeds."""
    taught = [row for row in rows if row.teacher_runs and row.seeds_planned > 1]
    if not taught:
        return []
    # The runs of a teacher that differ in seed share a folder.
    if any(len(row.teacher_runs) > len({run.parent for run in row.teacher_runs}) for row in taught):
        return [PAIRED_TEACHERS]
    return [ONE_TEACHER]


def stand_ins(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line that lists each stand-in of the rows once; none without stand-ins."""
    swaps = ", ".join(dict.fromkeys(swap for row in rows for swap in row.stand_ins))
    return [f"Stand-ins at scale {rows[0].scale}: {swaps}."] if swaps else []


def _clauses(row: ResultRow, usual_source: str = "") -> list[str]:
    """Return the clauses on one row; its source only where it is not the usual one."""
    sources = [f"published in {row.source}"] if row.source not in ("", usual_source) else []
    return list(dict.fromkeys([*row.mismatches, *row.differs, *row.notes, *sources]))


def _usual_source(rows: Sequence[ResultRow]) -> str:
    """Return the most frequent source of a table's published numbers."""
    sources = [row.source for row in rows if row.source]
    return max(sources, key=sources.count, default="")


def _sources(rows: Sequence[ResultRow], remarks: Sequence[Remark]) -> list[str]:
    """Return a line with the usual source, and the marks of numbers that are not comparable."""
    source = _usual_source(rows)
    if not source:
        return []
    differing = {clause for row in rows for clause in row.differs}
    marks = [remark.mark for remark in remarks if differing & {*remark.clauses}]
    other = f" Those marked {', '.join(marks)} have other conditions than ours." if marks else ""
    return [f"Published numbers: {source}.{other}"]


def _signs(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line for each sign that the cells of a table use."""
    gains = [row.gain for row in rows if row.gain]
    tested = sum(gain.p_holm is not None for gain in gains)
    family = f", corrected for the {tested} gains of this table (Holm)" if tested > 1 else ""
    lines = {
        "± standard deviation over seeds.": any(row.std is not None for row in rows),
        "(low to high) 95 % t interval over seeds.": any(gain.over_seeds for gain in gains),
        f"(low to high){IMAGES} 95 % interval over resampled test images; it excludes "
        "the variation between seeds.": any(
            gain.over_images and not gain.over_seeds for gain in gains
        ),
        f"{STAR} p < {SIGNIFICANT:g} in a paired t test over seeds{family}.": tested > 0,
    }
    return [line for line, is_used in lines.items() if is_used]
