"""What a distilled step costs beside its bound: time by part, memory, waiting for the host."""

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
    """Return what a step's forward asks of the teachers, to be asked again.

    What is compiled runs as it is written, so that its parts are seen.
    """
    with torch.compiler.set_stance("force_eager"), recording(distilled.model) as replay:
        distilled.losses(data)
    return replay


class Times(NamedTuple):
    """Seconds of a distilled step and of its bound, round by round."""

    student: list[float]
    """The bare student's step."""
    teacher: list[float]
    """The teachers' forward, as deep as methods read."""
    step: list[float]

    @property
    def bound(self) -> list[float]:
        """The least that the step can take, by round."""
        return [sum(both) for both in zip(self.student, self.teacher, strict=True)]

    @property
    def ratio(self) -> Quartiles:
        """The step over its bound."""
        return ratio(self.step, self.bound)


def times(student: Trainee, distilled: Trainee, replay: Replay, data: Any, rounds: int) -> Times:
    """Time a distilled step and the two parts of its bound in turn, on one batch."""
    cases: dict[str, Callable[[], object]] = {
        "student": lambda: student.step(data),
        "teacher": replay,
        "step": lambda: distilled.step(data),
    }
    return Times(**in_turn(cases, rounds))


class Memory(NamedTuple):
    """Bytes of tensors at the peak of a step, above what lies there between steps."""

    step: int
    student: int
    """Of the bare student's step."""
    teacher: int
    """Of the teachers' outputs that methods read."""

    @property
    def extra(self) -> float:
        """By how much the step exceeds student and teacher, as a share of these."""
        return self.step / (self.student + self.teacher) - 1


def peak_of(trainee: Trainee, data: Any) -> int:
    """Return the bytes at the peak of a step, which must not be the trainee's first."""
    return memory.peak(lambda: trainee.step(data))


@dataclass(frozen=True)
class Charged:
    """A trainee whose steps are charged to parts."""

    trainee: Trainee
    clock: Clock

    def step(self, data: Any) -> Parts:
        """Make a step; return the seconds of its parts, which are all of it."""
        self.clock.read()  # what a replay asked of the same teachers
        with self.clock.span(OTHER):
            self.trainee.step(data)
        return self.clock.read()

    def peaks(self, data: Any) -> dict[str, int]:
        """Make a step, not the first; return the bytes of tensors at the peak of each part.

        A little more than without parts, for what a part is called with lives until it returns.
        """
        return memory.peaks(lambda: self.step(data), self.clock)

    def synchronizations(self, data: Any) -> dict[str, Counter[str]]:
        """Make a step; return its synchronizations by part and operator."""
        found: dict[str, Counter[str]] = {}

        def report(operator: str) -> None:
            found.setdefault(self.clock.part, Counter())[operator] += 1

        with watching(report):
            self.step(data)
        return {part: found[part] for part in in_order(found)}


@contextmanager
def by_part(trainee: Trainee) -> Iterator[Charged]:
    """Charge the steps that are made in a block to parts."""
    clock = Clock()
    with charged(trainee.model, trainee.optimiser, clock):
        yield Charged(trainee, clock)


def replayed(replay: Replay) -> Parts:
    """Make the replay's calls; return the seconds of its parts."""
    clock = Clock()
    with torch.no_grad():
        for call in replay.calls:
            with clock.span(call.part):
                call()
    return clock.read()


def medians(steps: Sequence[Parts]) -> dict[str, Quartiles]:
    """Return each part's median and quartiles over steps, of which some may not have it."""
    return {
        part: quartiles([step.get(part, 0.0) for step in steps])
        for part in in_order(dict.fromkeys(part for step in steps for part in step))
    }


def waits(trainee: Trainee, steps: int) -> list[float]:
    """Return the seconds that each of some steps waited for its batch, while steps are made."""
    batches, found = trainee.batches(), []
    trainee.step(next(batches))  # processes start, and the first has nothing to go on beside
    for _ in progress(range(steps), steps, "steps with their loading"):
        synchronize()
        started = time.perf_counter()
        data = next(batches)
        found.append(time.perf_counter() - started)
        trainee.step(data)
    return found
