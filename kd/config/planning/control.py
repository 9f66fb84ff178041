"""Controls: the student alone, trained as long as a distilled student."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.planning.step_flops import StepFlops
from kd.config.run import Run
from kd.config.schedules import STAGES, changed, split_name
from kd.config.study_parts import Table

CONTROL = "same_time"
"""Name of a control in place of a method, in keys and selections."""


class EqualTime(NamedTuple):
    """Length of a control's training."""

    ratio: float
    """Cost of a distilled step over that of a step of the student alone."""
    epochs: int
    is_given: bool

    def describe(self, epochs: int) -> str:
        """Return a clause on the length; ``epochs``: those of the baseline."""
        origin = "as the study states" if self.is_given else "estimated from multiply-adds"
        return (
            f"trained for {self.epochs} epochs in place of {epochs}, as long as a distilled "
            f"student: its step costs {self.ratio:.2f} times as much ({origin})"
        )


def equal_times(
    table: Table, baseline: Run, distilled: Iterable[Run], library: Library, where: str
) -> list[EqualTime]:
    """Return the lengths of the controls of a cell, shortest first; none without ``same_time``.

    Epochs of the baseline are multiplied by the ratio that the table gives. Without one, the ratio
    is (3 S + T) / 3 S: S are the multiply-adds of a forward pass of the student, of which forward
    and backward passes take three times as many, and T those of the teachers. Epochs are rounded
    to the nearest whole number, and to at least one more than the baseline has. Distilled runs of
    one length share a control.
    """
    if not table.has_control:
        return []
    taught = [run for run in distilled if run.teacher or run.classifier]
    ratios = [table.time_ratio] if table.time_ratio else _ratios(baseline, taught, library, where)
    lengths: dict[int, float] = {}
    for ratio in ratios:
        epochs = math.floor(ratio * baseline.composed.epochs + 0.5)
        epochs = max(epochs, baseline.composed.epochs + 1)
        lengths[epochs] = max(ratio, lengths.get(epochs, 0.0))
    is_given = table.time_ratio is not None
    return [EqualTime(lengths[epochs], epochs, is_given) for epochs in sorted(lengths)]


def _ratios(baseline: Run, taught: Sequence[Run], library: Library, where: str) -> list[float]:
    if not taught:
        raise UserError(
            f"{where}: 'baseline: same_time' trains student '{baseline.student}' as long as a "
            "distilled one, but no method of the table has a teacher; delete the key"
        )
    flops, ratios = StepFlops(library), []
    alone = flops.training(baseline)
    for run in taught:
        step = flops.training(run)
        if not alone or not step:
            raise UserError(
                f"{where}: 'baseline: same_time' needs the multiply-adds of {_names(run)}, which "
                "the files in configs do not state ('flops' of a detector, 'gflops' of a backbone "
                "or classifier); give the ratio of step times, such as 'baseline: {same_time: "
                "1.4}', as `kd profile` measures it"
            )
        ratios.append(step / alone)
    return ratios


def _names(run: Run) -> str:
    return " and ".join(part.model for part in (run, run.teacher, run.classifier) if part)


def lengthened(name: str, epochs: int, library: Library, where: str) -> str:
    """Return the name of a schedule that trains for other epochs, such as ``1x-epochs16``.

    Milestones and stages keep their share of the training. The warm-up keeps its steps. A schedule
    with ``stop_epoch`` is stopped after ``epochs``, at the same share of its epochs.
    """
    base, changes = split_name(name, library.names("schedules"))
    schedule = library.schedule(name, where)
    length = {"epochs": epochs}
    if schedule.stop_epoch:
        whole = round(schedule.epochs * epochs / schedule.stop_epoch)
        length = {"epochs": whole, "stop_epoch": epochs}
    longer = changed(schedule, length, where)
    changes |= {key: getattr(longer, key) for key in ("milestones", *STAGES) if key in changes}
    return library.changed_schedule(base, {**changes, **length}, where)
