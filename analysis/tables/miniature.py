"""Results at scales below the paper's: what they can show, and what is printed of them."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.statistics.verdicts import PAPER
from analysis.tables.rows import WEAK_TEACHER, ResultRow

OWN_SCALE = "own"
"""Scale of own data, whose networks are those that the study names."""

LEFT_OUT = (
    "Published numbers are left out: results of one seed below scale paper are not comparable "
    "with them. table.csv has them."
)
"""Note under a table whose published numbers are not printed."""
ONE_SEED = "Miniature: tests the pipeline, not the method."
ONE_SEED_OWN_DATA = "Reduced scale and one seed: too little to compare methods."
ONE_SEED_FULL_SIZE = "One seed: too little to compare methods."
SEVERAL_SEEDS = "Miniature: results hold for this data and these networks, not for those published."
OWN_DATA = "Reduced scale: results hold for these networks, not for those of full size."


def warning(rows: Sequence[ResultRow]) -> str:
    """Return what results below the scale of the paper can show; empty at that scale.

    Results of own data at full size have a warning if they have one seed.
    """
    if not _is_reduced(rows):
        is_own = any(row.scale == OWN_SCALE for row in rows)
        return ONE_SEED_FULL_SIZE if is_own and not _has_several_seeds(rows) else ""
    replaces_parts = any(row.stand_ins or row.published for row in rows)
    if not _has_several_seeds(rows):
        return ONE_SEED if replaces_parts else ONE_SEED_OWN_DATA
    return SEVERAL_SEEDS if replaces_parts else OWN_DATA


def printable(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return rows, without published numbers if they have one seed below the scale of the paper.

    A reader would take a published number beside such a result for a reproduction.
    """
    return [_without_published(row) for row in rows] if is_single_miniature(rows) else list(rows)


def is_single_miniature(rows: Sequence[ResultRow]) -> bool:
    """Return True for rows of at most one measured seed below the scale of the paper."""
    return _is_reduced(rows) and not _has_several_seeds(rows)


def _is_reduced(rows: Sequence[ResultRow]) -> bool:
    return any(row.scale not in ("", PAPER, OWN_SCALE) for row in rows)


def _has_several_seeds(rows: Sequence[ResultRow]) -> bool:
    return any(row.seeds_measured > 1 for row in rows)


def _without_published(row: ResultRow) -> ResultRow:
    notes = tuple(note for note in row.notes if note.startswith(WEAK_TEACHER))
    return replace(row, published={}, published_gain=None, differs=(), notes=notes, source="")
