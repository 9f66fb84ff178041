"""Faults at random, some of which pass after a while, and Snakemake started after each end."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from tests.slurm.conftest import Case
from tests.slurm.flow import LIVE, Flow
from tests.slurm.lab import Queued

WEIGHTS = {
    "warn": 6, "scancel": 3, "requeue": 3, "preempt": 2, "node-lost": 2, "ctld-down": 2,
    "dbd-down": 1, "kill": 2, "interrupt": 2,
}  # fmt: skip
WITHOUT_CONTROLLER = {"node-lost", "dbd-down", "kill", "interrupt"}
BACK = {"node-lost": "node-back", "ctld-down": "ctld-up", "dbd-down": "dbd-up"}
PASSES_AFTER = (5, 40)
GAP = 3
"""Seconds between two faults, on average."""
NODES = ["lab1", "lab2"]
Hit = list[str] | None
"""The jobs that a fault concerns, or None where there was nothing to do it to."""


@dataclass(frozen=True)
class Fault:
    """What was done, from when to when, to which jobs, and in which run of Snakemake."""

    what: str
    began: float
    ended: float
    jobs: tuple[str, ...]
    run: int


@dataclass
class Chaos:
    """Runs Snakemake again and again while faults are injected."""

    case: Case
    random: Random
    unfinished: Callable[[], list[str]]
    faults: list[Fault] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    cut: set[int] = field(default_factory=set)
    queue: list[Queued] = field(default_factory=list)
    passing: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    start_at: float | None = None
    locked: bool = False

    def rage(self, seconds: float) -> float:
        """Inject faults, and make them pass at the end; return for how long there was work."""
        began = time.monotonic()
        next_fault = began + GAP
        self._start()
        while (now := time.monotonic()) < began + seconds:
            self._pass(now)
            if self.flows[-1].process.poll() is not None and self.start_at is None:
                if not self.unfinished():
                    break
                self._start()
            if self.start_at is not None and now >= self.start_at:
                self._start()
            if now >= next_fault:
                self._inject()
                next_fault = time.monotonic() + self.random.expovariate(1 / GAP)
            time.sleep(0.1)
        self._pass(float("inf"))
        if self.start_at is not None:
            self._start()
        return time.monotonic() - began

    def count(self) -> Counter[str]:
        """Return how often each fault happened."""
        return Counter(fault.what for fault in self.faults)

    def _start(self) -> None:
        if self.locked:
            unlocking = self.case.snakemake("--unlock")
            assert unlocking.wait() == 0, unlocking.output
        self.locked, self.start_at = False, None
        self.flows.append(self.case.snakemake("--submitit-on-interrupt", "leave"))

    def _pass(self, now: float) -> None:
        """Undo the faults whose time has come."""
        for what, (due, arguments) in list(self.passing.items()):
            if now >= due:
                self.case.lab.fault(BACK[what], *arguments)
                del self.passing[what]

    def _inject(self) -> None:
        controller = "ctld-down" not in self.passing
        if controller:
            self.queue = self._mine()
        possible = {
            what: weight
            for what, weight in WEIGHTS.items()
            if what not in self.passing and (controller or what in WITHOUT_CONTROLLER)
        }
        (what,) = self.random.choices([*possible], [*possible.values()])
        began, run = time.time(), len(self.flows) - 1
        hit = getattr(self, f"_{what.replace('-', '_')}")()
        if hit is None:
            return
        fault = Fault(what, began, time.time(), tuple(hit), run)
        self.faults.append(fault)
        with open(self.case.folder / "faults.log", "a") as stream:
            stream.write(f"{fault}\n")

    def _mine(self) -> list[Queued]:
        known = self.case.sampler.names
        jobs = self.case.lab.queue()
        return [job for job in jobs if job.state in LIVE and known.get(job.id)]

    def _on_a_job(self, states: set[str], act: Callable[[str], object]) -> Hit:
        """Do something to a random job, which may have ended just now."""
        jobs = [job for job in self.queue if job.state in states]
        if not jobs:
            return None
        job = self.random.choice(jobs)
        try:
            act(job.id)
        except AssertionError as error:
            live = {other.id for other in self._mine() if other.state in states}
            if job.id in live and "try again later" not in str(error):  # it is just being started
                raise
            return None
        return [job.id]

    def _at(self, node: str) -> list[str]:
        return [job.id for job in self.queue if job.node == node]

    def _warn(self) -> Hit:
        return self._on_a_job({"RUNNING"}, lambda id: self.case.lab.fault("warn", id))

    def _scancel(self) -> Hit:
        states = {"RUNNING", "PENDING"}
        return self._on_a_job(states, lambda id: self.case.lab.run("scancel", id))

    def _requeue(self) -> Hit:
        command = ("scontrol", "requeue")
        return self._on_a_job({"RUNNING"}, lambda id: self.case.lab.run(*command, id))

    def _preempt(self) -> Hit:
        hit = self._on_a_job({"RUNNING"}, lambda id: self.case.lab.fault("preempt", id))
        return hit and self._at(*(job.node for job in self.queue if job.id in hit))

    def _node_lost(self) -> Hit:
        node = self.random.choice(NODES)
        self._down("node-lost", node)
        return self._at(node)

    def _ctld_down(self) -> Hit:
        return self._down("ctld-down")

    def _dbd_down(self) -> Hit:
        return self._down("dbd-down")

    def _down(self, what: str, *arguments: str) -> Hit:
        self.case.lab.fault(what, *arguments)
        self.passing[what] = (time.monotonic() + self.random.uniform(*PASSES_AFTER), arguments)
        return []

    def _kill(self) -> Hit:
        return self._end(lambda flow: flow.kill(), locked=True)

    def _interrupt(self) -> Hit:
        return self._end(lambda flow: (flow.interrupt(), flow.wait(90)))

    def _end(self, act: Callable[[Flow], object], locked: bool = False) -> Hit:
        """End Snakemake, to be started again soon; not if it has ended."""
        flow = self.flows[-1]
        if flow.process.poll() is not None:
            return None
        self.cut.add(len(self.flows) - 1)
        act(flow)
        self.locked = locked
        self.start_at = time.monotonic() + self.random.uniform(0, 8)
        return []
