"""Verdicts by the rule of the design and by today's, with the reason for each change."""

from collections.abc import Iterable, Iterator
from math import sqrt
from typing import NamedTuple

from analysis.statistics.equivalence import HELPS, HURTS, NO_GAIN, UNDETERMINED
from analysis.statistics.seeds import SIGNIFICANT, WORTH_FINDING, holm
from analysis.tables.formatting import number
from analysis.tables.rows import ResultRow, by_table
from docs.build.evidence.claims import ends, probability

UNDECIDED = "undecided"
"""Verdict of the earlier rule if the corrected p is 0.05 or more."""


class Change(NamedTuple):
    """A row of a table, and its verdicts by both rules."""

    row: ResultRow
    p_earlier: float | None
    """p of the paired t test, corrected for the gains of the table (Holm)."""
    earlier: str
    verdict: str

    @property
    def is_new(self) -> bool:
        """True if more than the word for an undecided gain differs."""
        return (self.earlier, self.verdict) != (UNDECIDED, UNDETERMINED) and (
            self.earlier != self.verdict
        )


def changes(rows: Iterable[ResultRow]) -> Iterator[Change]:
    """Yield the verdicts on every gain of the rows."""
    for members in by_table(rows).values():
        gains = [row.gain for row in members]
        corrected = holm([gain.p if gain else None for gain in gains])
        for row, gain, p in zip(members, gains, corrected, strict=True):
            if gain:
                earlier = UNDECIDED
                if p is not None and p < SIGNIFICANT:
                    earlier = HELPS if gain.mean > 0 else HURTS
                yield Change(row, p, earlier, gain.judgment)


def table(rows: Iterable[ResultRow]) -> Iterator[dict[str, str]]:
    """Yield a line for each verdict that differs between the rules."""
    for change in filter(lambda change: change.is_new, changes(rows)):
        gain = change.row.gain
        assert gain is not None
        yield {
            "Table": change.row.table,
            "Row": change.row.label,
            "Gain": number(gain.mean, signed=True),
            "Before": change.earlier,
            "p, t test and Holm": probability(change.p_earlier),
            "Now": change.verdict,
            "Simultaneous interval": ends(gain.simultaneous),
            "Reason": reason(change),
        }


def summary(rows: Iterable[ResultRow]) -> str:
    """Return a sentence that counts the verdicts that did not change."""
    verdicts = [*changes(rows)]
    same = sum(change.earlier == change.verdict for change in verdicts)
    renamed = sum(not change.is_new for change in verdicts) - same
    return (
        f"Of {len(verdicts)} gains, {len(verdicts) - same - renamed} have another verdict. {same} "
        f"keep theirs, and {renamed} that were undecided are undetermined."
    )


def reason(change: Change) -> str:
    """Return why the rules differ on a gain."""
    gain, cell = change.row.gain, change.row.cell
    assert gain is not None and cell is not None
    seeds = change.row.seeds_measured
    if change.verdict == NO_GAIN:
        return (
            f"the gain is shown to lie within {WORTH_FINDING:g} AP of 0 "
            f"(p {probability(gain.p_equivalence)}), which the earlier rule did not test"
        )
    if change.verdict in (HELPS, HURTS):
        return (
            f"the variance comes from all rows of the table, with {cell.residual_df} degrees of "
            f"freedom, and no longer from {seeds} gains, with {seeds - 1}" + _moderated(change)
        )
    usual = cell.residual_std * sqrt(2)
    return (
        f"its {seeds} gains differ by a standard deviation of {gain.std or 0:.2f}, those of the "
        f"table by {usual:.2f}; {seeds} gains cannot show that this row varies less"
    )


def _moderated(change: Change) -> str:
    """Return a clause on the moderated interval if the variances of the table differ."""
    gain, cell = change.row.gain, change.row.cell
    if gain is None or cell is None or not cell.varies:
        return ""
    tests = (cell.equal_gains_p, cell.equal_runs_p)
    p = min(value for value in tests if value is not None)
    return (
        f"; variances differ (p {probability(p)}), and the moderated interval "
        f"({ends(gain.moderated)}) excludes 0, too"
    )
