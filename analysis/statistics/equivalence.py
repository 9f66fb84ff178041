"""Equivalence of a gain with no gain, and the word for a gain.

Two one-sided t tests (Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987): a
gain is shown to be worth less than half a point if it is significantly below 0.5 AP and above
-0.5 AP.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import scipy

from analysis.statistics.pooled import Family, PooledGain
from analysis.statistics.seeds import SIGNIFICANT, WORTH_FINDING, Interval, holm

Word = Literal["helps", "hurts", "no gain worth half a point", "undetermined"]
HELPS: Word = "helps"
HURTS: Word = "hurts"
NO_GAIN: Word = "no gain worth half a point"
UNDETERMINED: Word = "undetermined"


class Equivalence(NamedTuple):
    """Two one-sided tests of a gain against limits on both sides of 0."""

    p: float
    """The larger p of both tests."""
    interval: Interval
    """90 % interval of the gain: p is below 0.05 if it lies between the limits."""


def two_one_sided(
    mean: float, standard_error: float, df: float, limit: float = WORTH_FINDING
) -> Equivalence:
    """Return the tests that a gain in AP points lies between -``limit`` and ``limit``.

    ``standard_error``: above 0; ``df``: its degrees of freedom.
    """
    reach = standard_error * float(scipy.special.stdtrit(df, 1 - SIGNIFICANT))
    interval = Interval(mean - reach, mean + reach)
    t = (abs(mean) - limit) / standard_error
    return Equivalence(float(scipy.special.stdtr(df, t)), interval)


def word(over_seeds: Interval | None, p_equivalence: float | None) -> Word:
    """Return the word for a gain; the first that applies.

    "helps" or "hurts": the simultaneous interval ``over_seeds`` lies above or below 0. "no gain
    worth half a point": ``p_equivalence`` is below 0.05. Else "undetermined". A gain that is both
    above 0 and below half a point "helps", because its sign holds for the whole family of rows.
    Both ends belong to the interval: an interval from 0 does not show a gain.
    """
    if over_seeds is not None and over_seeds.low > 0:
        return HELPS
    if over_seeds is not None and over_seeds.high < 0:
        return HURTS
    if p_equivalence is not None and p_equivalence < SIGNIFICANT:
        return NO_GAIN
    return UNDETERMINED


class GainJudgment(NamedTuple):
    """The word for a gain, and the test of equivalence behind it."""

    word: Word
    p_equivalence: float
    """p of equivalence with no gain, of this row alone."""
    p_corrected: float
    """The same, corrected for all planned rows of the table (Holm); the word rests on it."""
    interval: Interval
    """90 % interval of this gain alone."""


def judge(gains: Mapping[str, PooledGain], family: Family) -> dict[str, GainJudgment]:
    """Return the judgment on each gain.

    Equivalence is corrected, because a table of ten gains at the limit has a false "no gain worth
    half a point" in 24 of 100 studies otherwise. A planned row without runs counts with p 1, so
    that the correction does not change as rows arrive.
    """
    tests = {
        name: two_one_sided(gain.mean, gain.standard_error, gain.df) for name, gain in gains.items()
    }
    waiting = len({*family.methods} - {*gains})
    corrected = holm([*(test.p for test in tests.values()), *([1.0] * waiting)])
    judgments = {}
    for (name, test), p in zip(tests.items(), corrected, strict=False):
        p_corrected = 1 - (1 - (p if p is not None else 1.0)) ** family.cells
        phrase = word(gains[name].over_seeds, p_corrected)
        judgments[name] = GainJudgment(phrase, test.p, p_corrected, test.interval)
    return judgments
