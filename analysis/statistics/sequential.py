"""Sequential decisions on the gains of a cell, by the looks of ``analysis.statistics.looks``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from analysis.statistics.equivalence import (
    HELPS,
    HURTS,
    NO_GAIN,
    UNDETERMINED,
    GainJudgment,
    Word,
    judge,
)
from analysis.statistics.looks import Rule
from analysis.statistics.moderated import confirmed_gains, moderated_gains
from analysis.statistics.pooled import Family, PooledGain, fit, pooled_gains

Values = Mapping[int, float | None]
"""AP points by seed of the runs that are measured; None if a run has no value."""


class Decision(NamedTuple):
    """The word for a gain and the look that decided it."""

    word: Word
    seeds: int


class Estimate(NamedTuple):
    """The gain of a row at its last look."""

    gain: PooledGain
    judgment: GainJudgment
    seeds: int


@dataclass
class CellProgress:
    """The decisions on a cell, and the look that comes next."""

    decisions: dict[str, Decision] = field(default_factory=dict)
    """Rows that are decided; at the end the others are "undetermined"."""
    estimates: dict[str, Estimate] = field(default_factory=dict)
    """Rows with a gain, at the look that decided them or at the last look."""
    undecided: list[str] = field(default_factory=list)
    """Rows that the next look needs; empty at the end."""
    seeds: int | None = None
    """Seeds of the next look; None at the end."""


def follow(
    order: Sequence[int],
    baseline: Values,
    methods: Mapping[str, Values],
    rule: Rule,
    family: Family | None = None,
) -> CellProgress:
    """Return the decisions of all looks whose runs are measured.

    ``order``: the seeds in the order in which they are added, at least ``rule.most``; ``family``:
    all planned rows, by default ``methods``. A look with n seeds reads the first n seeds, even if
    more are measured, and waits until the baseline and all undecided rows have them. Decided rows
    stay decided; their runs until then still estimate the variance.
    """
    progress = CellProgress(undecided=[*methods])
    planned = family.methods if family else methods
    for seeds, level in rule.levels.items():
        used = order[:seeds]
        needed = [baseline, *(methods[name] for name in progress.undecided)]
        if not all(values.keys() >= {*used} for values in needed):
            progress.seeds = seeds
            return progress
        points = {
            name: _points(values, used[: _last_seed(progress, name, seeds)])
            for name, values in methods.items()
        }
        look = Family(used, dict.fromkeys(planned, used), family.cells if family else 1)
        _decide(progress, _estimates(_points(baseline, used), points, look), seeds, level)
        if not progress.undecided:
            return progress
    progress.decisions |= dict.fromkeys(progress.undecided, Decision(UNDETERMINED, rule.most))
    progress.undecided = []
    return progress


def _last_seed(progress: CellProgress, name: str, seeds: int) -> int:
    """Return the number of seeds of a row at a look."""
    decision = progress.decisions.get(name)
    return decision.seeds if decision else seeds


def _points(values: Values, used: Sequence[int]) -> dict[int, float]:
    """Return the AP points of these seeds that have a value."""
    return {seed: value for seed in used if (value := values.get(seed)) is not None}


def _estimates(
    baseline: Mapping[int, float], methods: Mapping[str, Mapping[int, float]], family: Family
) -> dict[str, tuple[PooledGain, GainJudgment]]:
    """Return the confirmed gains, which are those of ``compare_cell``."""
    model = fit(baseline, methods)
    if model is None:
        return {}
    gains = confirmed_gains(pooled_gains(model, family), moderated_gains(model, family))
    judgments = judge(gains, family)
    return {name: (gain, judgments[name]) for name, gain in gains.items()}


def _decide(
    progress: CellProgress,
    estimates: Mapping[str, tuple[PooledGain, GainJudgment]],
    seeds: int,
    level: float,
) -> None:
    """Add the estimates of the undecided rows, and the rows that this look decides."""
    for name in progress.undecided:
        if name in estimates:
            progress.estimates[name] = Estimate(*estimates[name], seeds)
            word = word_at(*estimates[name], level)
            if word != UNDETERMINED:
                progress.decisions[name] = Decision(word, seeds)
    progress.undecided = [name for name in progress.undecided if name not in progress.decisions]


def word_at(gain: PooledGain, judgment: GainJudgment, level: float) -> Word:
    """Return the word for a gain at a level; ``equivalence.word`` is that at level 0.05."""
    if gain.p_adjusted < level:
        return HELPS if gain.mean > 0 else HURTS
    return NO_GAIN if judgment.p_corrected < level else UNDETERMINED
