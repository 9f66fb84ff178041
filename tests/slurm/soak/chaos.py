"""Injection of random faults, some of them temporary, and restarts of Snakemake."""

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
"""Mean seconds between two faults."""
NODES = ["lab1", "lab2"]
Hit = list[str] | None
"""Ids of the jobs that a fault affects; None if it could not be injected."""


@dataclass(frozen=True)
class Fault:
    """A fault: its kind, its time, the affected jobs, and the run of Snakemake."""

    kind: str
    began: float
    ended: float
    jobs: tuple[str, ...]
    run: int


@dataclass
class Chaos:
    """Injector of faults, which restarts Snakemake whenever it ends."""

    case: Case
    random: Random
    unfinished: Callable[[], list[str]]
    faults: list[Fault] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    stopped_runs: set[int] = field(default_factory=set)
    queue: list[Queued] = field(default_factory=list)
    passing: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    start_at: float | None = None
    locked: bool = False

    def rage(self, seconds: float) -> float:
        """Inject faults and undo them at the end; return the seconds until all jobs finished."""
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
        """Return the number of faults of each kind."""
        return Counter(fault.kind for fault in self.faults)

    def _start(self) -> None:
        if self.locked:
            unlocking = self.case.snakemake("--unlock")
            assert unlocking.wait() == 0, unlocking.output
        self.locked, self.start_at = False, None
        self.flows.append(self.case.snakemake("--submitit-on-interrupt", "leave"))

    def _pass(self, now: float) -> None:
        """Undo temporary faults that are due."""
        for kind, (due, arguments) in list(self.passing.items()):
            if now >= due:
                self.case.lab.fault(BACK[kind], *arguments)
                del self.passing[kind]

    def _inject(self) -> None:
        controller = "ctld-down" not in self.passing
        if controller:
            self.queue = self._live_jobs()
        possible = {
            kind: weight
            for kind, weight in WEIGHTS.items()
            if kind not in self.passing and (controller or kind in WITHOUT_CONTROLLER)
        }
        (kind,) = self.random.choices([*possible], [*possible.values()])
        began, run = time.time(), len(self.flows) - 1
        hit = getattr(self, f"_{kind.replace('-', '_')}")()
        if hit is None:
            return
        fault = Fault(kind, began, time.time(), tuple(hit), run)
        self.faults.append(fault)
        with open(self.case.folder / "faults.log", "a") as stream:
            stream.write(f"{fault}\n")

    def _live_jobs(self) -> list[Queued]:
        names = self.case.sampler.names
        jobs = self.case.lab.queue()
        return [job for job in jobs if job.state in LIVE and names.get(job.id)]

    def _on_a_job(self, states: set[str], act: Callable[[str], object]) -> Hit:
        """Apply a fault to a random job; return None if the job has just ended."""
        jobs = [job for job in self.queue if job.state in states]
        if not jobs:
            return None
        job = self.random.choice(jobs)
        try:
            act(job.id)
        except AssertionError as error:
            live = {other.id for other in self._live_jobs() if other.state in states}
            if job.id in live and "try again later" not in str(error):  # Slurm is starting the job
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

    def _down(self, kind: str, *arguments: str) -> Hit:
        self.case.lab.fault(kind, *arguments)
        self.passing[kind] = (time.monotonic() + self.random.uniform(*PASSES_AFTER), arguments)
        return []

    def _kill(self) -> Hit:
        return self._end(lambda flow: flow.kill(), locked=True)

    def _interrupt(self) -> Hit:
        return self._end(lambda flow: (flow.interrupt(), flow.wait(90)))

    def _end(self, act: Callable[[Flow], object], locked: bool = False) -> Hit:
        """Stop Snakemake and schedule its restart; return None if it has ended."""
        flow = self.flows[-1]
        if flow.process.poll() is not None:
            return None
        self.stopped_runs.add(len(self.flows) - 1)
        act(flow)
        self.locked = locked
        self.start_at = time.monotonic() + self.random.uniform(0, 8)
        return []
