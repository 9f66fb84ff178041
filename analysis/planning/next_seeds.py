"""State of a study under the sequential rule: decided rows, and the trainings of the next look."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from analysis.planning.cells import PlannedCell, cells_of
from analysis.statistics.looks import Rule
from analysis.statistics.pooled import Family
from analysis.statistics.sequential import CellProgress, follow
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.workflow.budget import Budget, budget_of
from kd.workflow.budget_text import trainings_of


@dataclass(frozen=True)
class Price:
    """Trainings that are not finished, and their estimated hours."""

    trainings: int
    hours: float
    without_estimate: int


@dataclass(frozen=True)
class NextSeeds:
    """The decisions on a study, and the look that comes next."""

    progress: list[tuple[PlannedCell, CellProgress]]
    seeds: int | None
    """Seeds of the next look; None at the end."""
    rows: list[str]
    """Keys of the undecided rows that the next look reads."""
    price: Price
    """Trainings of the next look."""
    whole_price: Price
    """Trainings of all looks, if no further row is decided."""
    measured: int
    """Measured runs of the rows with a gain and of their baselines."""


def next_seeds(plan: Plan, rule: Rule, library: Library) -> NextSeeds:
    """Return the decisions on a plan of ``rule.most`` seeds, and the look that comes next.

    Cells proceed separately. The next look is that of the cells with the fewest seeds.
    """
    progress = [(cell, _follow(cell, rule)) for cell in cells_of(plan)]
    waiting = [(cell, state) for cell, state in progress if state.seeds]
    seeds = min((state.seeds for _, state in waiting if state.seeds), default=None)
    now = [cell_state for cell_state in waiting if cell_state[1].seeds == seeds]
    rows = [key for _, state in now for key in state.undecided]
    budget = budget_of(plan, library)
    return NextSeeds(
        progress=progress,
        seeds=seeds,
        rows=rows,
        price=_price(_rows(plan, now, seeds or 0), budget),
        whole_price=_price(_rows(plan, waiting, rule.most), budget),
        measured=sum(
            len(values)
            for cell, _ in progress
            for values in (cell.baseline_values, *cell.values.values())
        ),
    )


def _follow(cell: PlannedCell, rule: Rule) -> CellProgress:
    planned = {key: [*row.runs] for key, row in cell.rows.items()}
    family = Family([*cell.baseline], planned, cell.cells)
    return follow([*cell.baseline], cell.baseline_values, cell.values, rule, family)


def _rows(plan: Plan, cells: Iterable[tuple[PlannedCell, CellProgress]], seeds: int) -> list[Row]:
    """Return the undecided rows of cells, and their baselines, with these first seeds only."""
    keys = {key for cell, state in cells for key in (cell.key, *state.undecided)}
    return [
        replace(row, runs=dict(list(row.runs.items())[:seeds]))
        for row in plan.rows
        if row.key in keys
    ]


def _price(rows: list[Row], budget: Budget) -> Price:
    """Return the price of the trainings of rows, including their teachers."""
    trainings = [budget.trainings[name] for name in trainings_of(rows)]
    remaining = [training for training in trainings if not training.usage]
    return Price(
        trainings=len(remaining),
        hours=sum(training.hours or 0.0 for training in remaining),
        without_estimate=sum(training.hours is None for training in remaining),
    )
