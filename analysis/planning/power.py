"""Power of a plan: the gains that its seeds detect, and the seeds that a gain needs."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tabulate import tabulate

from analysis.planning.cells import PlannedCell, cells_of
from analysis.statistics.pooled import CONFIDENCE, fit
from analysis.statistics.pooled_power import (
    MOST_SEEDS,
    POWER,
    detectable_gain,
    pooled_seeds_needed,
)
from analysis.statistics.seeds import ROUNDING, SIGNIFICANT, WORTH_FINDING, mean_std
from kd.config.plan import Plan

MANY_DEGREES = 10
"""Degrees of freedom from which the number of seeds is printed without its range."""
COLUMNS = ("gains over", "rows", "seeds", "std of a run", "detectable gain")


class Spread(NamedTuple):
    """The standard deviation of a run about its row and seed, in AP points."""

    std: float
    df: int
    """Degrees of freedom."""
    source: str = ""
    """Runs that it was measured on, if not those of the cell."""

    @property
    def limits(self) -> tuple[float, float]:
        """The 95 % confidence interval of ``std``, from chi-squared."""
        from scipy.special import chdtri

        tail = (1 - CONFIDENCE) / 2
        low, high = (
            self.std * math.sqrt(self.df / float(chdtri(self.df, p))) for p in (tail, 1 - tail)
        )
        return low, high


def spreads(cells: Sequence[PlannedCell]) -> list[Spread | None]:
    """Return the spread of the runs of each cell; None if no cell of its metric has one.

    It is the residual deviation of the pooled model. A cell without one has the deviation of the
    other cells together. Where no cell has one, it is that of baselines alone, which includes the
    variation that all rows of a seed share: the power is then too low rather than too high.
    """
    residual = [_residual(cell) for cell in cells]
    lines: list[Spread | None] = []
    for cell, spread in zip(cells, residual, strict=True):
        peers = [
            other for other, one in zip(residual, cells, strict=True) if one.metric == cell.metric
        ]
        alone = (_alone(one) for one in cells if one.metric == cell.metric)
        lines.append(
            spread
            or _together(filter(None, peers), "other rows")
            or _together({key: one for key, one in alone if one}.values(), "baselines alone")
        )
    return lines


def _residual(cell: PlannedCell) -> Spread | None:
    baseline, methods = _defined(cell.baseline_values), cell.values
    model = fit(baseline, {key: _defined(values) for key, values in methods.items()})
    return Spread(model.std, model.df) if model else None


def _alone(cell: PlannedCell) -> tuple[tuple[str, ...], Spread | None]:
    """Return the runs of a baseline, which tables may share, and their spread, if they vary."""
    _, std, count = mean_std(_defined(cell.baseline_values).values())
    names = tuple(run.name for run in cell.baseline.values())
    return names, Spread(std, count - 1) if std is not None and std > ROUNDING else None


def _defined(values: dict[int, float | None]) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if value is not None}


def _together(spreads: Iterable[Spread], source: str) -> Spread | None:
    """Return the root of the mean variance, weighted by degrees of freedom."""
    several = list(spreads)
    df = sum(one.df for one in several)
    if not df:
        return None
    return Spread(math.sqrt(sum(one.df * one.std**2 for one in several) / df), df, source)


def describe(plan: Plan) -> str:
    """Return the smallest gain that the planned seeds detect, and the seeds of half a point."""
    cells = cells_of(plan)
    by_cell = list(zip(cells, spreads(cells), strict=True))
    measured = [(cell, spread) for cell, spread in by_cell if spread]
    lines = [
        f"Cannot estimate the variation of {metric} between seeds: it takes two baseline seeds "
        "with different results."
        for metric in dict.fromkeys(cell.metric for cell, spread in by_cell if not spread)
    ]
    if measured:
        lines += _table(measured)
    return "\n".join(lines)


def _table(measured: Sequence[tuple[PlannedCell, Spread]]) -> list[str]:
    """Return a line for each baseline; those with equal numbers have one line together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for cell, spread in measured:
        groups.setdefault(_numbers(cell, spread), []).append(cell.key)
    cells = [
        (keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more", *numbers)
        for numbers, keys in groups.items()
    ]
    headers = (*COLUMNS, f"seeds for {WORTH_FINDING:g}")
    align = ("left", *["right"] * (len(headers) - 1))
    text = tabulate(cells, headers, tablefmt="plain", colalign=align, disable_numparse=True)
    metrics = ", ".join(dict.fromkeys(cell.metric for cell, _ in measured))
    notes = [
        f"Detectable: shown with probability {POWER:g} at level {SIGNIFICANT:g} for all rows of a "
        f"table, in {metrics} points.",
        "std: about the effects of row and seed.",
    ]
    if any(spread.df < MANY_DEGREES for _, spread in measured):
        notes[-1] += " In parentheses: over its 95 % interval."
    if any(cell.seeds < 2 for cell, _ in measured):
        notes.append("One seed detects no gain: plan at least two.")
    return [text, *notes]


def _numbers(cell: PlannedCell, spread: Spread) -> tuple[str, ...]:
    rows = len(cell.rows)
    gain = detectable_gain(spread.std, cell.seeds, rows, cells=cell.cells)
    needed = _needed(spread.std, rows, cell.cells)
    if spread.df < MANY_DEGREES:
        low, high = (_needed(std, rows, cell.cells) for std in spread.limits)
        needed += f" ({low} to {high})"
    source = f", {spread.source}" if spread.source else ""
    return (
        str(rows),
        str(cell.seeds),
        f"{spread.std:.2f} (df {spread.df}{source})",
        "none" if gain is None else f"{gain:.1f}",
        needed,
    )


def _needed(std: float, rows: int, cells: int) -> str:
    seeds = pooled_seeds_needed(std, rows, cells=cells)
    return str(seeds) if seeds else f"over {MOST_SEEDS:,}"
