"""Notes under a table: its signs, stand-ins, sources, and remarks on rows with their marks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analysis.statistics.equivalence import HELPS, HURTS, NO_GAIN, UNDETERMINED
from analysis.statistics.seeds import WORTH_FINDING
from analysis.tables.cells import CellFacts
from analysis.tables.formatting import IMAGES, JOINT_TITLE, STAR
from analysis.tables.rows import ResultRow

MARKS = "†‡§¶"
ONE_TEACHER = (
    "All seeds of a row have the same teacher: intervals over seeds leave out the variation "
    "between teachers."
)
VALIDATED = "All rows are measured on the validation split."
NO_VALIDATION = (
    "No validation split: AP during training and sweeps were measured on the test split."
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
    sources = published_sources(rows, table_remarks)
    signs = [*_splits(rows), *_signs(rows), *_teachers(rows)]
    return [*_selection(rows), *signs, *stand_ins(rows), *sources, *map(str, table_remarks)]


def _splits(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line on the split of a table, or on the lack of a validation split, if known."""
    if any(row.split == "val" for row in rows):
        return [VALIDATED]
    return [NO_VALIDATION] if any(row.early_split == "test" for row in rows) else []


def _selection(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line that marks a part of a table; none for a whole table."""
    if not rows[0].selection:
        return []
    text = f"A part of the table: selected rows ({rows[0].selection}) with teachers and baselines."
    judged = any(row.gain and row.gain.simultaneous for row in rows)
    return [text + " Gains are judged as part of the whole table." * judged]


def _teachers(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line on the seeds of teachers; none if no distilled row has several seeds."""
    taught = [row for row in rows if row.kind == "distilled" and row.teacher]
    if not any(row.seeds_planned > 1 for row in taught):
        return []
    # Without a teacher detector there is no teacher's row; runs that differ in seed share a folder.
    seeds = [row.seeds_planned for row in rows if row.kind == "teacher"] or [
        len(row.teacher_runs) // len({run.parent for run in row.teacher_runs})
        for row in taught
        if row.teacher_runs
    ]
    return [PAIRED_TEACHERS if max(seeds, default=1) > 1 else ONE_TEACHER]


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


def published_sources(rows: Sequence[ResultRow], remarks: Sequence[Remark]) -> list[str]:
    """Return a line with the usual source, and the marks of numbers that are not comparable."""
    source = _usual_source(rows)
    if not source:
        return []
    differing = {clause for row in rows for clause in row.differs}
    marks = [remark.mark for remark in remarks if differing & {*remark.clauses}]
    other = f" Those marked {', '.join(marks)} have other conditions than ours." if marks else ""
    return [f"Published numbers: {source}.{other}"]


def _signs(rows: Sequence[ResultRow]) -> list[str]:
    """Return a line for each sign and word that the cells of a table use."""
    gains = [row.gain for row in rows if row.gain]
    words = {gain.judgment for gain in gains}
    judged = any(gain.simultaneous for gain in gains)
    images = "validation" if any(row.split == "val" for row in rows) else "test"
    lines = {
        "± standard deviation over seeds.": any(row.std is not None for row in rows),
        f"(low to high) 95 % interval over seeds, {_family(rows)}.": judged,
        f"(low to high){IMAGES} 95 % interval over resampled {images} images; it excludes "
        "the variation between seeds.": any(
            gain.over_images and not gain.simultaneous for gain in gains
        ),
        f"{JOINT_TITLE}: interval of one gain over seeds and resampled test images together.": any(
            gain.joint for gain in gains
        ),
        f"{STAR} {HELPS} or {HURTS}: the interval over seeds excludes 0.": any(
            gain.significant for gain in gains
        ),
        f"{NO_GAIN}: shown to be between -{WORTH_FINDING} and {WORTH_FINDING} points (two "
        "one-sided t tests, corrected for the planned rows by Holm's method).": NO_GAIN in words,
        f"{UNDETERMINED}: neither shown to differ from 0 nor to be worth less than half a "
        "point.": judged and UNDETERMINED in words,
        f"{UNDETERMINED}, without an interval over seeds: all seeds gave the same gain, so these "
        "runs do not show how much another seed would differ.": any(
            gain.std is not None and not gain.simultaneous for gain in gains
        ),
        "Where runs are missing, a gain is the estimate of the model from all rows. It can "
        "differ from the mean over shared seeds.": judged and any(map(_lacks_runs, rows)),
    }
    return [*(line for line, is_used in lines.items() if is_used), *_models(rows)]


def _lacks_runs(row: ResultRow) -> bool:
    return row.kind != "teacher" and 0 < row.seeds_measured < row.seeds_planned


def _family(rows: Sequence[ResultRow]) -> str:
    """Return what the simultaneous intervals of a table hold for."""
    facts = next((row.cell for row in rows if row.cell), None)
    if facts is None or facts.table_rows == 1:
        return "for the only planned gain of this table"
    several = facts.table_cells > 1
    baselines = f"{facts.table_cells} baselines, Sidak" if several else "one baseline"
    return f"for all {facts.table_rows} planned gains of this table together (Dunnett, {baselines})"


def _cells(rows: Sequence[ResultRow]) -> dict[str, CellFacts]:
    """Return the facts of each cell of a table by its name; empty without a model."""
    cells: dict[tuple[str, str, CellFacts], None] = {
        (row.group, row.student, row.cell): None for row in rows if row.cell and row.gain
    }
    groups = [group for group, _, _ in cells]
    return {
        group if groups.count(group) == 1 else f"{group}, {student}, cell {place}": facts
        for place, (group, student, facts) in enumerate(cells, 1)
    }


def _models(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Yield a line on the model of each cell and on its checked assumptions."""
    cells = _cells(rows)
    for name, facts in cells.items():
        text = (
            f"residual standard deviation {facts.residual_std:.2f} points, "
            f"{facts.residual_df} degrees of freedom"
        )
        tests = [
            f"p {p:.2g} ({what})"
            for p, what in ((facts.equal_gains_p, "gains"), (facts.equal_runs_p, "runs"))
            if p is not None
        ]
        if tests:
            text += f"; equal variances: {', '.join(tests)}"
        if facts.varies:
            text += "; they differ, which the interval by a moderated variance allows for"
        yield f"{name}: {text}." if len(cells) > 1 else f"{text[0].upper()}{text[1:]}."
