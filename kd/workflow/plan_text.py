"""Text of ``kd plan``: sums, missing data, and the rows of a plan with their keys and hours."""

from collections.abc import Sequence

from tabulate import tabulate

from kd.common.lists import enumerate_names
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.workflow.budget import Budget, TrainingBudget, budget_of
from kd.workflow.zoo_text import describe_teachers

COLUMNS = ("row", "seeds", "finished", "used", "remaining, estimated")
CLASSIFIER = "classifier"
UNKNOWN = "unknown"
NONE = "-"


def describe_plan(plan: Plan, library: Library) -> str:
    """Return the sums of a plan, its missing data, and a line for each row."""
    budget = budget_of(plan, library)
    cells = [
        *(_cells(f"{CLASSIFIER}/{name}", [budget.trainings[name]]) for name in plan.classifiers),
        *(_cells(row.key, _trainings(row, budget)) for row in plan.rows),
    ]
    align = ("left", "right", "right", "right", "right")
    table = tabulate(cells, COLUMNS, tablefmt="plain", colalign=align, disable_numparse=True)
    notes = [
        "A training that several rows share counts in each row, and once in the sums.",
        "Add --budget for hours by table and days on GPUs, or --rows KEY to select rows.",
    ]
    lines = [*_sums(plan, budget), *describe_teachers(plan, library)]
    lines += scaled_rates(plan, library)
    lines += [*missing_data(plan, library), *early_splits(plan, library)]
    return "\n".join([*lines, "", table, "", *notes])


def scaled_rates(plan: Plan, library: Library) -> list[str]:
    """Return a line for each schedule whose learning rate follows from that of another batch."""
    lines = []
    names = [run.schedule for run in plan.runs.values()]
    classifiers = [run.schedule for run in plan.classifiers.values()]
    for name in dict.fromkeys([*names, *classifiers]):
        schedule = library.schedule(name, "the plan")
        if schedule.base_batch_size:
            lines.append(
                f"Learning rate of schedule '{name}': {schedule.learning_rate:g} for a batch of "
                f"{schedule.batch_size} ({schedule.lr:g} for {schedule.base_batch_size})"
            )
    return lines


def missing_data(plan: Plan, library: Library) -> list[str]:
    """Return a line for each data set of a plan that is not on this machine.

    A command is on a separate line, to be copied.
    """
    lines = []
    for name in sorted({run.dataset for run in plan.runs.values()}):
        entry = library.dataset(name, "the plan")
        if not entry.is_present():
            remedy = entry.fetch or f"put it at '{entry.root}', or correct 'root' in its entry"
            reason, separator, command = remedy.partition("; run ")
            lines.append(f"Data set '{name}' is missing: {reason}{separator.rstrip()}")
            lines += [f"  {command}"] if command else []
    return lines


def early_splits(plan: Plan, library: Library) -> list[str]:
    """Return a line on data without a validation split, and on tables that are measured on one."""
    names = sorted({run.dataset for run in plan.runs.values()})
    missing = [name for name in names if library.dataset(name, "the plan").val is None]
    tables = dict.fromkeys(row.table for row in plan.rows if row.split == "val")
    lines = []
    if missing:
        lines.append(
            f"No validation split ({enumerate_names(missing)}): AP during training and sweeps are "
            "measured on the test split"
        )
    if tables:
        lines.append(f"Measured on the validation split: {enumerate_names(tables)}")
    return lines


def hours_text(hours: float) -> str:
    """Return hours with about two digits, below an hour in minutes."""
    if hours >= 1:
        return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h"
    minutes = 60 * hours
    return f"{minutes:.0f} min" if minutes >= 1 or not hours else "under 1 min"


def _about(hours: float) -> str:
    """Return hours of an estimate."""
    text = hours_text(hours)
    return text if text.startswith("under") or not hours else f"about {text}"


def _sums(plan: Plan, budget: Budget) -> list[str]:
    trainings = [*budget.trainings.values()]
    usages = [training.usage for training in trainings if training.usage]
    remaining = [training for training in trainings if not training.usage]
    lines = [
        f"Scale {budget.scale}: {len(trainings)} trainings for {len(plan.rows)} rows, "
        f"{len(usages)} finished"
    ]
    used = f"{hours_text(sum(usage.hours for usage in usages))} used"
    hours = budget.remaining_hours(budget.trainings)
    estimated = [training for training in remaining if training.hours is not None]
    if estimated:
        used += f", {_about(hours)} remaining (an estimate for {len(estimated)} trainings)"
    lines.append(f"Time: {used}")
    if len(remaining) > len(estimated):
        lines[-1] += f"; {len(remaining) - len(estimated)} trainings have no estimate"
    if budget.gpus and (usages or estimated):
        lines.append(f"GPU hours in all: {_about(budget.gpu_hours(budget.trainings))}")
    return lines


def _trainings(row: Row, budget: Budget) -> list[TrainingBudget]:
    return [budget.trainings[run.name] for run in row.runs.values()]


def _cells(name: str, trainings: Sequence[TrainingBudget]) -> tuple[str, ...]:
    """Return a row's key, its seeds, its finished runs, and their used and remaining hours."""
    usages = [training.usage for training in trainings if training.usage]
    used = hours_text(sum(usage.hours for usage in usages)) if usages else NONE
    hours = [training.hours for training in trainings if not training.usage]
    estimates = [value for value in hours if value is not None]
    remaining = _about(sum(estimates)) if hours else NONE
    if len(estimates) < len(hours):
        remaining = UNKNOWN
    return name, str(len(trainings)), str(len(usages)), used, remaining
