"""Calls of Slurm's commands: one call for all jobs, and errors with Slurm's message."""

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
"""Final states, unless the job is requeued; in all other states a job is live."""

SECONDS = 60
"""Time limit of a command in seconds; Slurm's own timeouts are shorter."""

CHUNK = 100
"""Number of job ids in one command line."""

calls: Counter[str] = Counter()
"""Number of calls of each command by this process."""


class SlurmError(Exception):
    """Failure of a Slurm command; the message is Slurm's."""


@dataclass(frozen=True)
class Queued:
    """A job as ``squeue`` shows it; finished jobs stay there for a few minutes."""

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
    """A job in Slurm's accounting; ``states`` are those of the job and of its steps."""

    states: tuple[str, ...]
    exit_code: str
    node: str


def queue(clusters: str = "") -> dict[str, Queued]:
    """Return all jobs of this user by id, with array elements as separate jobs.

    Raise SlurmError if Slurm does not answer.
    """
    form = "%i|%T|%N|%M|%l|%r|%k"
    jobs = {}
    for line in run_command(
        "squeue", *on_cluster(clusters), "--me", "-h", "-r", "--states=all", "-o", form
    ):
        fields = line.split("|", 6)
        if len(fields) == 7:
            id, state, node, elapsed, limit, reason, comment = fields
            jobs[id] = Queued(id, state, reason, node, comment, elapsed, limit)
    return jobs


def accounted(ids: Sequence[str], clusters: str = "") -> dict[str, Accounted]:
    """Return the accounting records of jobs, read in one call per 100 jobs.

    The result is empty on a cluster without accounting. If a call fails, the result has only the
    jobs of earlier calls.
    """
    rows: dict[str, list[list[str]]] = {}
    for chunk in _chunks(ids):
        command = [
            "sacct",
            *on_cluster(clusters),
            "-P",
            "-n",
            "-o",
            "JobID,State,ExitCode,NodeList",
            "-j",
            ",".join(chunk),
        ]
        try:
            lines = run_command(*command)
        except SlurmError:
            break
        for line in lines:
            fields = line.split("|")
            if len(fields) == 4:
                rows.setdefault(fields[0].split(".")[0], []).append(fields)
    return {id: _account(job_rows) for id, job_rows in rows.items()}


def _account(rows: list[list[str]]) -> Accounted:
    states = tuple(row[1].split()[0] if row[1] else "UNKNOWN" for row in rows)
    return Accounted(states, rows[0][2], rows[0][3])


def cancel(ids: Sequence[str], clusters: str = "") -> None:
    """Cancel pending and running jobs; raise SlurmError with all failures."""
    failures = []
    for chunk in _chunks(ids):
        try:
            run_command("scancel", *on_cluster(clusters), *chunk)
        except SlurmError as error:
            failures.append(str(error))
    if failures:
        raise SlurmError("; ".join(failures))


def responds(seconds: float) -> bool:
    """Return True as soon as the controller answers, False if it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if any("UP" in line for line in run_command("scontrol", "ping")):
                return True
        except SlurmError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(1)


def leave_allocation() -> bool:
    """Remove a surrounding job's variables from the environment, or submissions inherit them.

    Return True if this process runs inside a job.
    """
    inside = "SLURM_JOB_ID" in os.environ
    if inside:
        for name in list(os.environ):
            if name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF":
                del os.environ[name]
    return inside


def on_cluster(clusters: str) -> list[str]:
    """Return the option that names another cluster than that of this machine."""
    return [f"--clusters={clusters}"] if clusters else []


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]


def run_command(*command: str) -> list[str]:
    """Return the lines that a command prints; SlurmError if it fails or does not answer."""
    calls[command[0]] += 1
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=SECONDS, encoding="utf-8", errors="replace"
        )
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]}: command not found. Run on a node of the Slurm cluster."
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {SECONDS} s") from None
    if result.returncode:
        raise SlurmError(
            " ".join(result.stderr.split()) or f"{command[0]}: exit status {result.returncode}"
        )
    return result.stdout.splitlines()
