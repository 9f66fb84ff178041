"""What each training of a plan took or, where it has not ended, will take."""

from collections.abc import Iterable
from dataclasses import dataclass

from tabulate import tabulate

from kd.config.library import Library
from kd.config.plan import Plan
from kd.config.run import Run
from kd.resources.flops import Training
from kd.resources.requests import Demands
from kd.resources.throughput import Basis
from kd.resources.usage import Cost, cost
from kd.workflow.workflow import Request


@dataclass(frozen=True)
class Item:
    """A training: what it took, or the hours that it still takes and what says so."""

    name: str
    teachers: tuple[str, ...]
    """Trainings of the plan that end before it begins."""
    images: int | None
    spent: Cost | None
    hours: float | None
    """To come; 0 after its end, None where nothing tells."""
    basis: Basis | None


@dataclass(frozen=True)
class Costs:
    """The trainings of a plan by name, teachers first, each of ``gpus`` GPUs or ``threads``."""

    items: dict[str, Item]
    scale: str
    gpus: int
    threads: int
    """CPU threads of a process, those that load data included."""

    def to_come(self, names: Iterable[str]) -> float:
        """Return the hours that these still take, as far as they are known."""
        return sum(self.items[name].hours or 0.0 for name in names)

    def gpu_hours(self, names: Iterable[str]) -> float:
        """Return what these took and still take of GPUs, as far as it is known."""
        chosen = [self.items[name] for name in names]
        return sum(item.spent.gpu_hours if item.spent else self.gpus * (item.hours or 0.0)
                   for item in chosen)  # fmt: skip


def costs(plan: Plan, library: Library) -> Costs:
    """Return what the trainings of a plan took and still take."""
    runs: dict[str, Training] = {**plan.classifiers, **plan.runs}
    demands = Demands(Request.read(library.root / "default.yaml"), plan.scale, library)
    demands.check(runs.values())
    items = {name: _item(run, demands, library) for name, run in runs.items()}
    scale = next((run.scale for run in runs.values()), "")
    return Costs(items, scale, demands.gpus, demands.threads + demands.workers)


def _item(run: Training, demands: Demands, library: Library) -> Item:
    teachers = [run.teacher, run.classifier] if isinstance(run, Run) else []
    names = tuple(teacher.name for teacher in teachers if teacher)
    images, spent = demands.rates.work.images(run), cost(run.directory)
    if spent:
        return Item(run.name, names, images, spent, 0.0, None)
    hours, basis = demands.expected(run) or (None, None)
    left = 1 - _saved(run) * library.schedule(run.schedule, run.name).batch_size / (images or 1)
    return Item(run.name, names, images, None, hours and hours * max(left, 0.0), basis)


def _saved(run: Training) -> int:
    """Return the step from which a training goes on."""
    newest = max((run.directory / "checkpoints").glob("step*.pth"), default=None)
    return int(newest.stem.removeprefix("step")) if newest else 0


def describe(plan: Plan, library: Library) -> str:
    """Return the runs of a plan, one line each: images to train on, hours, name."""
    found = costs(plan, library)
    items = found.items.values()
    cells = [_cells(item) for item in items]
    align = ("right", "right", "left", "left")
    lines = [tabulate(cells, tablefmt="plain", colalign=align, disable_numparse=True)]
    measured = sum(item.spent.hours for item in items if item.spent)
    expected = [item for item in items if not item.spent]
    unknown = sum(item.hours is None for item in expected)
    parts = [f"{len(items)} runs", f"{measured:.2f} h measured"]
    if expected:
        estimated, number = found.to_come(found.items), len(expected) - unknown
        parts.append(f"about {estimated:.2f} h estimated for {number} runs to come")
    if unknown:
        parts.append(f"{unknown} runs that nothing is known of")
    return "\n".join(
        [*lines, f"{'; '.join(parts)}; {found.gpu_hours(found.items):.2f} GPU hours in all"]
    )


def _cells(item: Item) -> tuple[str, str, str, str]:
    """Return the images of a run, its hours, their source, and its name."""
    images = "images unknown" if item.images is None else f"{item.images:,} images"
    if item.spent:
        return images, f"{item.spent.hours:.2f} h", "measured", item.name
    if item.hours is None:
        return images, "", "unknown", item.name
    return images, f"{item.hours:.2f} h", "estimate", item.name
