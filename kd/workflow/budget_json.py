"""JSON of ``kd plan --json``: the trainings of a plan, or their budget."""

from collections.abc import Iterable, Sequence
from typing import Any

from kd.common.documents import json_document
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.workflow.budget import Budget, TrainingBudget, budget_of, makespan
from kd.workflow.budget_text import check_gpus, device_numbers, trainings_of


def trainings_json(plan: Plan, library: Library) -> str:
    """Return the rows of a plan, and their trainings with images and hours, as JSON."""
    budget = budget_of(plan, library)
    return json_document(
        {
            "scale": budget.scale,
            "rows": [_row(row) for row in plan.rows],
            "runs": [_run(training) for training in budget.trainings.values()],
            "total": _sums(budget.trainings, budget),
        }
    )


def budget_json(plan: Plan, library: Library, gpus: int | None = None) -> str:
    """Return hours by table, and wall hours on numbers of GPUs or on this machine, as JSON."""
    budget = budget_of(plan, library)
    check_gpus(budget, gpus)
    tables = dict.fromkeys(row.table for row in plan.rows)
    names = {key: trainings_of(row for row in plan.rows if row.table == key) for key in tables}
    return json_document(
        {
            "scale": budget.scale,
            "gpus_per_training": budget.gpus,
            "tables": [{"table": key, **_sums(names[key], budget)} for key in tables],
            "total": _sums(budget.trainings, budget),
            "wall": [
                {
                    "gpus" if budget.gpus else "cpu_threads": number,
                    "trainings_at_once": at_once,
                    "hours": makespan(budget.trainings, at_once),
                }
                for number, at_once in device_numbers(budget, gpus)
            ],
        }
    )


def _row(row: Row) -> dict[str, Any]:
    return {
        "key": row.key,
        "table": row.table,
        "kind": row.kind,
        "detector": row.detector,
        "teacher": row.teacher,
        "student": row.student,
        "method": row.method,
        "runs": [run.name for run in row.runs.values()],
    }


def _run(training: TrainingBudget) -> dict[str, Any]:
    usage = training.usage
    return {
        "name": training.name,
        "teachers": list(training.teachers),
        "images": training.images,
        "finished": usage is not None,
        "hours": usage.hours if usage else training.hours,
        "gpu_hours": usage.gpu_hours if usage else None,
        "energy_kwh": usage.energy_kwh if usage else None,
        "estimate": training.basis,
    }


def _sums(names: Iterable[str], budget: Budget) -> dict[str, Any]:
    """Return numbers of trainings, and their used and remaining hours."""
    trainings = [budget.trainings[name] for name in names]
    usages = [training.usage for training in trainings if training.usage]
    remaining = [training for training in trainings if not training.usage]
    return {
        "runs": len(trainings),
        "finished": len(usages),
        "without_estimate": sum(training.hours is None for training in remaining),
        "used_hours": sum(usage.hours for usage in usages),
        "used_gpu_hours": sum(usage.gpu_hours for usage in usages),
        "remaining_hours": _hours(remaining),
        "remaining_gpu_hours": budget.gpus * _hours(remaining),
    }


def _hours(trainings: Sequence[TrainingBudget]) -> float:
    return sum(training.hours or 0.0 for training in trainings)
