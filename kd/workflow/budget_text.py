"""Text of ``kd plan --budget``: hours by table, time on GPUs, energy, sources of the estimates."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from tabulate import tabulate

from kd.common.durations import duration
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.resources.throughput import Basis
from kd.workflow.budget import Budget, TrainingBudget, budget_of, makespan
from kd.workflow.options import WorkflowOptions
from kd.workflow.zoo_text import describe_teachers

TRAININGS_AT_ONCE = (1, 2, 4, 8)
"""Numbers of simultaneous trainings whose time is printed if the number of GPUs is not given."""
COLUMNS = ("table", "runs", "finished", "used", "remaining")
BASES: dict[Basis, str] = {
    "measured": "the throughput of the same runs with other seeds",
    "rehearsed": "rehearsals of a few steps (`kd rehearsals` prints them)",
    "corrected": "multiply-adds, corrected by the finished runs of the scale",
    "modeled": "multiply-adds alone",
}


def describe_budget(plan: Plan, library: Library, gpus: int | None = None) -> str:
    """Return hours by table, time on ``gpus`` GPUs, energy, and the sources of the estimates.

    UserError if a training takes more GPUs than ``gpus``, or no GPU.
    """
    budget = budget_of(plan, library)
    check_gpus(budget, gpus)
    lines = _tables(plan, budget)
    if teachers := describe_teachers(plan, library):
        lines += ["", *teachers]
    lines += ["", *_times(budget, gpus), *_energy(budget), *_bases(budget, library), ""]
    lines.append("These numbers cover training only; prediction and evaluation take extra time.")
    return "\n".join(lines)


def check_gpus(budget: Budget, gpus: int | None) -> None:
    """Raise UserError if a training takes more GPUs than ``gpus``, or no GPU."""
    if gpus is None or (budget.gpus and gpus >= budget.gpus):
        return
    if not budget.gpus:
        raise UserError(
            f"--gpus {gpus}: trainings of scale '{budget.scale}' use no GPU; leave out --gpus, or "
            "set 'gpus' in configs/default.yaml"
        )
    raise UserError(
        f"--gpus {gpus}: a training of scale '{budget.scale}' uses {budget.gpus}; give at least "
        f"{budget.gpus}, or set 'gpus' in configs/default.yaml"
    )


def _tables(plan: Plan, budget: Budget) -> list[str]:
    unit = "GPU h" if budget.gpus else "h"
    tables = dict.fromkeys(row.table for row in plan.rows)
    names = {key: trainings_of(row for row in plan.rows if row.table == key) for key in tables}
    lines = [_line(table, trainings, budget) for table, trainings in names.items()]
    cells = [*lines, _line("all tables", budget.trainings, budget)]
    align = ["left"] + ["right"] * (len(COLUMNS) - 1)
    text = tabulate(cells, COLUMNS, tablefmt="plain", colalign=align, disable_numparse=True)
    shared = "; a run that several tables share counts in each, and once in 'all tables'"
    return [text, f"(in {unit}; remaining is an estimate{shared if len(lines) > 1 else ''})"]


def trainings_of(rows: Iterable[Row]) -> list[str]:
    """Return the names of the trainings of rows, including their teachers."""
    runs = [run for row in rows for run in row.runs.values()]
    teachers = [teacher for run in runs for teacher in (run.teacher, run.classifier) if teacher]
    return list(dict.fromkeys(run.name for run in (*teachers, *runs)))


def _line(table: str, names: Iterable[str], budget: Budget) -> tuple[str, ...]:
    trainings = [budget.trainings[name] for name in names]
    usages = [training.usage for training in trainings if training.usage]
    used = sum(usage.gpu_hours if budget.gpus else usage.hours for usage in usages)
    remaining = max(budget.gpus, 1) * sum(training.hours or 0.0 for training in trainings)
    return table, str(len(trainings)), str(len(usages)), _amount(used), _amount(remaining)


def _amount(hours: float) -> str:
    """Return hours with three digits, which is more than an estimate is good for."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}" if hours >= 10 else f"{hours:.2f}"


def _times(budget: Budget, gpus: int | None) -> list[str]:
    """Return the remaining time on ``gpus`` GPUs or, if None, on several numbers of GPUs."""
    if all(training.usage for training in budget.trainings.values()):
        return ["Every training has ended."]
    noun = "GPU" if budget.gpus else "CPU thread"
    return [
        _time(budget, at_once, _count(number, noun))
        for number, at_once in device_numbers(budget, gpus)
    ]


def device_numbers(budget: Budget, gpus: int | None) -> list[tuple[int, int]]:
    """Return numbers of GPUs, or that of CPU threads, each with the trainings that fit at once."""
    if not budget.gpus:
        cores = len(os.sched_getaffinity(0))
        return [(cores, max(cores // budget.threads, 1))]
    numbers = [gpus] if gpus else [budget.gpus * at_once for at_once in TRAININGS_AT_ONCE]
    return [(number, number // budget.gpus) for number in numbers]


def _time(budget: Budget, at_once: int, devices: str) -> str:
    seconds = 3600 * makespan(budget.trainings, at_once)
    size = _count(budget.gpus, "GPU") if budget.gpus else _count(budget.threads, "thread")
    return f"on {devices}: about {duration(seconds)} remaining, {at_once} at once on {size} each"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _energy(budget: Budget) -> list[str]:
    """Return the energy of finished trainings and, at their power, of the remaining ones."""
    usages = [training.usage for training in budget.trainings.values() if training.usage]
    measured = [(usage.energy_kwh, usage.gpu_hours) for usage in usages
                if usage.energy_kwh is not None]  # fmt: skip
    energy = sum(kwh for kwh, _ in measured)
    hours = sum(gpu_hours for _, gpu_hours in measured)
    if not hours:
        return []
    remaining = energy / hours * budget.gpus * budget.remaining_hours(budget.trainings)
    on_gpus = sum(bool(usage.gpu_hours) for usage in usages)
    unmeasured = on_gpus - sum(bool(gpu_hours) for _, gpu_hours in measured)
    missing = f" ({unmeasured} more did not measure it)" if unmeasured else ""
    return [f"energy of GPUs: {energy:.2f} kWh used{missing}, about {remaining:.2f} kWh remaining"]


def _bases(budget: Budget, library: Library) -> list[str]:
    """Return the remaining hours by the source of their estimate."""
    remaining = [training for training in budget.trainings.values() if not training.usage]
    counts = Counter(training.basis for training in remaining if training.hours)
    lines = [
        f"Estimate for {_count(counts[basis], 'training')}: "
        f"{duration(3600 * _hours(remaining, basis))}, from {text}"
        for basis, text in BASES.items()
        if counts[basis]
    ]
    without_estimate = sum(training.hours is None for training in remaining)
    if without_estimate:
        lines.append(f"These numbers leave out {without_estimate} trainings without an estimate.")
    if counts["modeled"]:
        lines.append(_assumed_speed(budget, library))
    return lines


def _hours(trainings: Sequence[TrainingBudget], basis: Basis) -> float:
    return sum(training.hours or 0.0 for training in trainings if training.basis == basis)


def _assumed_speed(budget: Budget, library: Library) -> str:
    options = WorkflowOptions.read(library.root / "default.yaml")
    speed, key = f"{options.gpu_tflops:g} tera", "gpu_tflops"
    if not budget.gpus:
        speed, key = f"{options.cpu_gflops:g} giga", "cpu_gflops"
    return (
        f"No training of scale '{budget.scale}' has been measured, so the estimate assumes {speed} "
        f"multiply-adds a second: key '{key}' of configs/default.yaml."
    )
