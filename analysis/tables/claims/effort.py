"""Time and hardware of a claim: hours of its trainings, and the source of each number."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from analysis.tables.formatting import amount
from kd.common.files import read_json
from kd.config.plan import Plan
from kd.config.run import AnyRun
from kd.resources.rehearsals import Rehearsals
from kd.resources.throughput import Basis
from kd.workflow.budget import Budget, TrainingBudget

MEASURED, IMPORTED, UNKNOWN = "measured", "imported", "without an estimate"
SOURCES: Mapping[Basis | None, str] = {
    "measured": "measured on other seeds",
    "rehearsed": "rehearsed",
    "corrected": "estimated",
    "modeled": "estimated",
    None: UNKNOWN,
}
"""Words for the source of an estimate; the budget of a plan explains them."""


class Effort(NamedTuple):
    """Hours of trainings, without prediction and evaluation."""

    hours: float
    """GPU hours or, if trainings use no GPU, hours on the CPU."""
    gpus: int
    """GPUs of each training; 0 for the CPU."""
    sources: Mapping[str, int]
    """Number of trainings by the source of their hours."""
    devices: tuple[str, ...] = ()
    """Devices that trainings were measured or rehearsed on."""

    def __str__(self) -> str:
        """Return hours, trainings, sources and devices.

        An example is ``57 GPU h: 9 trainings, measured on NVIDIA H200``.
        """
        count = sum(self.sources.values())
        noun = f"{count} training{'s' * (count != 1)}"
        if [*self.sources] == [UNKNOWN]:
            return f"no estimate: {noun}"
        unit = "GPU h" if self.gpus else "h on the CPU"
        devices = f" on {', '.join(self.devices)}" if self.devices else ""
        if len(self.sources) == 1:
            return f"{amount(self.hours)} {unit}: {noun}, {next(iter(self.sources))}{devices}"
        parts = ", ".join(f"{number} {source}" for source, number in self.sources.items())
        return f"{amount(self.hours)} {unit}: {noun} ({parts}){devices}"


def effort_of(names: Iterable[str], budget: Budget, devices: Mapping[str, str]) -> Effort:
    """Return the effort of the trainings with these names, from their first steps.

    ``devices``: those of measured and rehearsed trainings, by name.
    """
    names = [*dict.fromkeys(names)]
    trainings = [budget.trainings[name] for name in names]
    hours = sum(_hours(training, budget.gpus) for training in trainings)
    used = dict.fromkeys(devices[name] for name in names if name in devices)
    return Effort(hours, budget.gpus, Counter(map(_source, trainings)), (*used,))


def devices_of(plan: Plan, budget: Budget) -> dict[str, str]:
    """Return the device of each training of a plan that was measured or rehearsed, by name."""
    runs: dict[str, AnyRun] = {**plan.classifiers, **plan.runs}
    rehearsals, devices = Rehearsals(), {}
    for name, training in budget.trainings.items():
        if _source(training) == MEASURED:
            record = read_json(runs[name].directory / "provenance.json")
            devices[name] = (record.get("devices") or [record.get("cpu")])[0]
        elif training.basis == "rehearsed" and (rehearsal := rehearsals.of(runs[name])):
            devices[name] = rehearsal.device
    return {name: device for name, device in devices.items() if device}


def _hours(training: TrainingBudget, gpus: int) -> float:
    """Return the hours of a training: used ones on the devices that it had."""
    if training.usage:
        return training.usage.gpu_hours if gpus else training.usage.hours
    return max(gpus, 1) * (training.whole_hours or 0.0)


def _source(training: TrainingBudget) -> str:
    if training.images == 0 or (training.usage and training.usage.images_per_second is None):
        return IMPORTED
    return MEASURED if training.usage else SOURCES[training.basis]
