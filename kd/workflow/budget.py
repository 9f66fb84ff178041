"""Budget of a plan: resources that its trainings used, and hours that the others will take."""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import AnyRun, Run
from kd.resources.requests import ResourceRequests
from kd.resources.throughput import Basis
from kd.resources.usage import Usage, read_usage
from kd.workflow.options import WorkflowOptions


@dataclass(frozen=True)
class TrainingBudget:
    """The usage of a finished training, or the hours that an unfinished one will take."""

    name: str
    teachers: tuple[str, ...]
    """Trainings of the plan that must end before this one begins."""
    images: int | None
    usage: Usage | None
    """None before the training ends."""
    hours: float | None
    """Remaining hours: 0 after the end, None without an estimate."""
    basis: Basis | None
    """Source of the estimate."""
    whole_hours: float | None
    """Hours of the training from its first step: used or, before its end, estimated."""


@dataclass(frozen=True)
class Budget:
    """The trainings of a plan by name, teachers first."""

    trainings: dict[str, TrainingBudget]
    scale: str
    gpus: int
    """GPUs of each training."""
    threads: int
    """CPU threads of each process, including its data loading processes."""

    def remaining_hours(self, names: Iterable[str]) -> float:
        """Return the sum of the remaining hours that have an estimate."""
        return sum(self.trainings[name].hours or 0.0 for name in names)

    def gpu_hours(self, names: Iterable[str]) -> float:
        """Return the sum of used GPU hours and of the remaining ones that have an estimate."""
        total = 0.0
        for training in map(self.trainings.__getitem__, names):
            usage = training.usage
            total += usage.gpu_hours if usage else self.gpus * (training.hours or 0.0)
        return total


def budget_of(plan: Plan, library: Library) -> Budget:
    """Return the budget of a plan's trainings."""
    runs: dict[str, AnyRun] = {**plan.classifiers, **plan.runs}
    options = WorkflowOptions.read(library.root / "default.yaml")
    requests = ResourceRequests(options, plan.scale, library)
    requests.check(runs.values())
    trainings = {name: _training_budget(run, requests) for name, run in runs.items()}
    scale = next((run.scale for run in runs.values()), "")
    return Budget(trainings, scale, requests.gpus, requests.threads + requests.workers)


def _training_budget(run: AnyRun, requests: ResourceRequests) -> TrainingBudget:
    teachers = [run.teacher, run.classifier] if isinstance(run, Run) else []
    names = tuple(teacher.name for teacher in teachers if teacher)
    images, usage = requests.flops.training_images(run), read_usage(run.directory)
    if usage:
        return TrainingBudget(run.name, names, images, usage, 0.0, None, usage.hours)
    whole_hours, basis = requests.expected(run) or (None, None)
    hours = whole_hours
    if hours and images:
        trained_images = _last_checkpoint_step(run) * run.composed.batch_size
        hours *= max(1 - trained_images / images, 0.0)
    return TrainingBudget(run.name, names, images, None, hours, basis, whole_hours)


def _last_checkpoint_step(run: AnyRun) -> int:
    """Return the step of the newest checkpoint, 0 without one."""
    newest = max((run.directory / "checkpoints").glob("step*.pth"), default=None)
    return int(newest.stem.removeprefix("step")) if newest else 0


def makespan(trainings: Mapping[str, TrainingBudget], at_once: int) -> float:
    """Return the hours until the last training ends, ``at_once`` at a time (list scheduling).

    As long as a slot is free, the first training in the plan's order begins whose teachers have
    ended. A training without an estimate takes no time.
    """
    waiting = [training for training in trainings.values() if not training.usage]
    ended = {training.name for training in trainings.values() if training.usage}
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        for training in [t for t in waiting if ended.issuperset(t.teachers)]:
            if len(running) < at_once:
                heapq.heappush(running, (now + (training.hours or 0.0), training.name))
                waiting.remove(training)
        now, name = heapq.heappop(running)
        ended.add(name)
    return now
