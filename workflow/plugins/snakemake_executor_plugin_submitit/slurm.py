"""Slurm's own commands: one question for all jobs, and words that say why one cannot be asked."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

TERMINAL = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
"""States a job does not leave, unless it is requeued; every other state is a live one."""

SECONDS = 60
"""How long a command may take; Slurm's own time-outs are shorter."""

CHUNK = 100
"""Ids in one command line."""

calls: Counter[str] = Counter()
"""How often each command was called by this process."""


class SlurmError(Exception):
    """A Slurm command failed; its message is Slurm's."""


@dataclass(frozen=True)
class Queued:
    """A job as ``squeue`` shows it, finished ones too for a few minutes."""

    id: str
    state: str
    reason: str
    node: str
    comment: str
    elapsed: str = ""
    limit: str = ""

    @property
    def live(self) -> bool:
        return self.state not in TERMINAL


@dataclass(frozen=True)
class Accounted:
    """A job as ``sacct`` remembers it; ``states`` are the job's and its steps'."""

    states: tuple[str, ...]
    exit_code: str
    node: str


def queue() -> dict[str, Queued]:
    """Return all jobs of this user by id, array elements one by one; SlurmError without answer."""
    form = "%i|%T|%N|%M|%l|%r|%k"
    found = {}
    for line in _run("squeue", "--me", "-h", "-r", "--states=all", "-o", form):
        fields = line.split("|", 6)
        if len(fields) == 7:
            id, state, node, elapsed, limit, reason, comment = fields
            found[id] = Queued(id, state, reason, node, comment, elapsed, limit)
    return found


def accounted(ids: Sequence[str]) -> dict[str, Accounted]:
    """Return what accounting knows of jobs; empty where there is none. One call for 100 jobs.

    Once a call fails, jobs of the calls before have their answers and the others none.
    """
    found: dict[str, list[list[str]]] = {}
    for chunk in _chunks(ids):
        command = [
            "sacct",
            "-P",
            "-n",
            "-o",
            "JobID,State,ExitCode,NodeList",
            "-j",
            ",".join(chunk),
        ]
        try:
            lines = _run(*command)
        except SlurmError:
            break
        for line in lines:
            fields = line.split("|")
            if len(fields) == 4:
                found.setdefault(fields[0].split(".")[0], []).append(fields)
    return {id: _account(rows) for id, rows in found.items()}


def _account(rows: list[list[str]]) -> Accounted:
    states = tuple(row[1].split()[0] if row[1] else "UNKNOWN" for row in rows)
    return Accounted(states, rows[0][2], rows[0][3])


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs, pending or running."""
    failures = []
    for chunk in _chunks(ids):
        try:
            _run("scancel", *chunk)
        except SlurmError as error:
            failures.append(str(error))
    if failures:
        raise SlurmError("; ".join(failures))


def responds(seconds: float) -> bool:
    """Return whether the controller answers within some seconds, asking again until then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if any("UP" in line for line in _run("scontrol", "ping")):
                return True
        except SlurmError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(1)


def leave_allocation() -> bool:
    """Drop what a surrounding job tells this process, so that it does not leak into submissions."""
    inside = "SLURM_JOB_ID" in os.environ
    if inside:
        for name in list(os.environ):
            if name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF":
                del os.environ[name]
    return inside


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def _run(*command: str) -> list[str]:
    calls[command[0]] += 1
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=SECONDS, encoding="utf-8", errors="replace"
        )
    except FileNotFoundError:
        raise SlurmError(f"{command[0]}: not found; is this a node of a Slurm cluster?") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer in {SECONDS} s") from None
    if result.returncode:
        raise SlurmError(" ".join(result.stderr.split()) or f"{command[0]}: {result.returncode}")
    return result.stdout.splitlines()
