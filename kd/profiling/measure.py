"""Cost of a distilled step beside its bound: time by part, memory, waiting for the host."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from kd.common.progress import progress
from kd.common.timing import Quartiles, in_turn, quartiles, ratio, synchronize
from kd.profiling import memory
from kd.profiling.clock import Clock
from kd.profiling.parts import OTHER, charged, in_order
from kd.profiling.replay import Replay, recording
from kd.profiling.synchronizations import watching
from kd.profiling.trainee import Trainee

Parts = dict[str, float]
"""Seconds by part."""


def replay_of(distilled: Trainee, data: Any) -> Replay:
    """Return the calls of the teachers and, in terms, of the student, to be repeated.

    Compiled functions run uncompiled, so that their parts are recorded.
    """
    with torch.compiler.set_stance("force_eager"), recording(distilled.model) as replay:
        distilled.losses(data)
    return replay


class Times(NamedTuple):
    """Seconds of a distilled step and of its bound, round by round."""

    student: list[float]
    """Steps of the student alone."""
    teacher: list[float]
    """Teachers up to the deepest layer that methods read, with the gradients that methods need
    through them, and what methods make the student compute in addition."""
    forward: list[float]
    """The same without gradients."""
    step: list[float]

    @property
    def bound(self) -> list[float]:
        """Least seconds that the step can take, by round."""
        return [sum(both) for both in zip(self.student, self.teacher, strict=True)]

    @property
    def ratio(self) -> Quartiles:
        """Seconds of the step divided by its bound."""
        return ratio(self.step, self.bound)

    @property
    def forward_ratio(self) -> Quartiles:
        """Seconds of the step divided by the bound without gradients through teachers."""
        return ratio(self.step, [sum(p) for p in zip(self.student, self.forward, strict=True)])


def times(student: Trainee, distilled: Trainee, replay: Replay, data: Any, rounds: int) -> Times:
    """Time a distilled step and the two parts of its bound in turn, on one batch."""
    cases: dict[str, Callable[[], object]] = {
        "student": lambda: student.step(data),
        "teacher": replay,
        "step": lambda: distilled.step(data),
    }
    if replay.gradients:
        cases["forward"] = lambda: replay(gradients=False)
    seconds = in_turn(cases, rounds)
    return Times(**{"forward": seconds["teacher"], **seconds})


class Memory(NamedTuple):
    """Bytes of tensors at the peak of a step, in excess of those between steps."""

    step: int
    student: int
    """Bytes at the peak of the student's step alone."""
    teacher: int
    """Bytes of the teachers' outputs that methods read."""

    @property
    def extra(self) -> float:
        """Excess of the step over student and teacher, as a share of these."""
        return self.step / (self.student + self.teacher) - 1


def peak_of(trainee: Trainee, data: Any) -> int:
    """Return the bytes at the peak of a step, which must not be the trainee's first."""
    return memory.peak(lambda: trainee.step(data))


@dataclass(frozen=True)
class ProfiledTrainee:
    """Trainee whose steps are charged to parts."""

    trainee: Trainee
    clock: Clock

    def step(self, data: Any) -> Parts:
        """Run a step; return the seconds of its parts, whose sum is the step."""
        self.clock.read()  # discards calls of a replay to the same teachers
        with self.clock.span(OTHER):
            self.trainee.step(data)
        return self.clock.read()

    def peaks(self, data: Any) -> dict[str, int]:
        """Run a step, not the first; return the bytes of tensors at the peak of each part.

        The arguments of a part live until it returns, so the bytes are slightly more than without
        parts.
        """
        return memory.peaks(lambda: self.step(data), self.clock)

    def synchronizations(self, data: Any) -> dict[str, Counter[str]]:
        """Run a step; return its synchronizations by part and operator."""
        counts: dict[str, Counter[str]] = {}

        def report(operator: str) -> None:
            counts.setdefault(self.clock.part, Counter())[operator] += 1

        with watching(report):
            self.step(data)
        return {part: counts[part] for part in in_order(counts)}


@contextmanager
def by_part(trainee: Trainee) -> Iterator[ProfiledTrainee]:
    """Charge the steps of a block to parts."""
    clock = Clock()
    with charged(trainee.model, trainee.optimizer, clock):
        yield ProfiledTrainee(trainee, clock)


def replayed(replay: Replay) -> Parts:
    """Run the calls of a replay; return the seconds of its parts."""
    clock = Clock()
    for call in replay.calls:
        with clock.span(call.part):
            call(gradients=True)
    return clock.read()


def medians(steps: Sequence[Parts]) -> dict[str, Quartiles]:
    """Return each part's median and quartiles over steps; a step without the part counts as 0."""
    return {
        part: quartiles([step.get(part, 0.0) for step in steps])
        for part in in_order(dict.fromkeys(part for step in steps for part in step))
    }


def waits(trainee: Trainee, steps: int) -> list[float]:
    """Return the seconds that each step waits for its batch."""
    batches, seconds = trainee.batches(), []
    trainee.step(
        next(batches)
    )  # starts the processes; no step runs while the first batch is loaded
    for _ in progress(range(steps), steps, "steps with their loading"):
        synchronize()
        started = time.perf_counter()
        data = next(batches)
        seconds.append(time.perf_counter() - started)
        trainee.step(data)
    return seconds
