"""Verdicts by the rule of the design and by today's, and the reasons for each change."""

import pytest

from analysis.statistics.equivalence import Word
from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval
from analysis.tables.cells import CellFacts
from analysis.tables.rows import ResultRow
from docs.build.evidence.changes import changes, summary, table

CELL = CellFacts(0.5, 20, 0.4, 0.3, 3, 3, 1)


def row(label: str, p: float | None, judgment: Word, mean: float = 1.0, **cell: float) -> ResultRow:
    gain = Gain(
        mean, 0.1, p=p, judgment=judgment, p_equivalence=0.012, moderated=Interval(0.1, 2.0)
    )
    return ResultRow(
        table="T", group="G", label=label, kind="distilled", teacher="t", student="s",
        seeds_measured=3, seeds_planned=3, gain=gain, cell=CELL._replace(**cell),
    )  # fmt: skip


def test_the_earlier_rule_is_a_t_test_corrected_for_the_table() -> None:
    """Holm multiplies the smallest of three p by 3, and the others by 2 and 1."""
    rows = [row("a", 0.01, "helps"), row("b", 0.03, "helps"), row("c", 0.9, "undetermined")]
    assert [change.earlier for change in changes(rows)] == ["helps", "undecided", "undecided"]
    assert [change.p_earlier for change in changes(rows)] == pytest.approx([0.03, 0.06, 0.9])
    assert [change.is_new for change in changes(rows)] == [False, True, False]


def test_a_loss_hurts() -> None:
    (change,) = changes([row("a", 0.01, "hurts", mean=-1.0)])
    assert (change.earlier, change.is_new) == ("hurts", False)


@pytest.mark.parametrize(
    ("p", "judgment", "reason"),
    [
        (0.2, "helps", "with 20 degrees of freedom, and no longer from 3 gains, with 2"),
        (0.01, "undetermined", "its 3 gains differ by a standard deviation of 0.10, those of the "),
        (0.2, "no gain worth half a point", "the gain is shown to lie within 0.5 AP of 0 (p 0.012"),
    ],
)
def test_each_change_has_a_reason(p: float, judgment: Word, reason: str) -> None:
    (line,) = table([row("a", p, judgment)])
    assert reason in line["Reason"] and "variances differ" not in line["Reason"]
    assert line["Now"] == judgment


def test_where_variances_differ_the_moderated_interval_is_printed() -> None:
    (line,) = table([row("a", 0.2, "helps", equal_gains_p=0.02)])
    assert line["Reason"].endswith(
        "; variances differ (p 0.020), and the moderated interval (+0.1 to +2.0) excludes 0, too"
    )


def test_unchanged_verdicts_are_counted() -> None:
    rows = [
        row("a", 0.001, "helps"),
        row("b", 0.2, "helps"),
        row("c", 0.9, "undetermined"),
        row("d", 0.8, "undetermined"),
    ]
    assert summary(rows) == (
        "Of 4 gains, 1 have another verdict. 1 keep theirs, and 2 that were undecided are "
        "undetermined."
    )
