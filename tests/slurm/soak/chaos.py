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
GAP = 5
"""Seconds between two faults, on average."""
NODES = ["lab1", "lab2"]


@dataclass(frozen=True)
class Fault:
    """What was done, when, to which jobs, and in which run of Snakemake; or that it came late."""

    what: str
    time: float
    jobs: tuple[str, ...]
    run: int
    missed: bool = False


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
    passing: dict[str, tuple[float, list[str]]] = field(default_factory=dict)
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
        return Counter(fault.what for fault in self.faults if not fault.missed)

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
        getattr(self, f"_{what.replace('-', '_')}")()

    def _mine(self) -> list[Queued]:
        known = self.case.sampler.names
        jobs = self.case.lab.queue()
        return [job for job in jobs if job.state in LIVE and known.get(job.id)]

    def _note(self, what: str, jobs: list[str], missed: bool = False) -> None:
        self.faults.append(Fault(what, time.time(), tuple(jobs), len(self.flows) - 1, missed))

    def _on_a_job(self, what: str, states: set[str], act: Callable[[str], object]) -> None:
        """Do something to a random job, which may have ended just now."""
        jobs = [job for job in self.queue if job.state in states]
        if not jobs:
            return
        job = self.random.choice(jobs)
        hit = [job.id]
        if what == "preempt":
            hit = [other.id for other in self.queue if other.node == job.node]
        try:
            act(job.id)
        except AssertionError:
            ended = job.id not in {other.id for other in self._mine() if other.state in states}
            assert ended, f"{what} {job}"
            self._note(what, [job.id], missed=True)
        else:
            self._note(what, hit)

    def _warn(self) -> None:
        self._on_a_job("warn", {"RUNNING"}, lambda id: self.case.lab.fault("warn", id))

    def _scancel(self) -> None:
        states = {"RUNNING", "PENDING"}
        self._on_a_job("scancel", states, lambda id: self.case.lab.run("scancel", id))

    def _requeue(self) -> None:
        requeue = ("scontrol", "requeue")
        self._on_a_job("requeue", {"RUNNING"}, lambda id: self.case.lab.run(*requeue, id))

    def _preempt(self) -> None:
        self._on_a_job("preempt", {"RUNNING"}, lambda id: self.case.lab.fault("preempt", id))

    def _node_lost(self) -> None:
        node = self.random.choice(NODES)
        self._note("node-lost", [job.id for job in self.queue if job.node == node])
        self._down("node-lost", [node])

    def _ctld_down(self) -> None:
        self._note("ctld-down", [])
        self._down("ctld-down", [])

    def _dbd_down(self) -> None:
        self._note("dbd-down", [])
        self._down("dbd-down", [])

    def _down(self, what: str, arguments: list[str]) -> None:
        self.case.lab.fault(what, *arguments)
        self.passing[what] = (time.monotonic() + self.random.uniform(*PASSES_AFTER), arguments)

    def _kill(self) -> None:
        if self._ending("kill"):
            self.flows[-1].kill()
            self.locked = True

    def _interrupt(self) -> None:
        if self._ending("interrupt"):
            flow = self.flows[-1]
            flow.interrupt()
            flow.wait(90)

    def _ending(self, what: str) -> bool:
        """Note that Snakemake is ended now, to be started again soon; not if it has ended."""
        running = self.flows[-1].process.poll() is None
        if running:
            self._note(what, [])
            self.cut.add(len(self.flows) - 1)
            self.start_at = time.monotonic() + self.random.uniform(0, 8)
        return running
