"""Real Slurm clusters on this machine, each with a separate folder and ports."""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest

from tests.support.machine import NO_SLURM
from tests.support.paths import REPOSITORY

CLUSTER = Path(__file__).parent / "cluster"
UNSUPPORTED = 77
"""Exit status of ``start.sh`` on a machine that cannot run a cluster."""

SLOWNESS = 5
"""Factor by which a loaded machine may be slower than an idle one."""

PORTS = 20
FIRST_PORT, LAST_PORT = 18000, 30000
FLAVORS = {
    "accounting": ["--accounting", "dbd"],
    "no-accounting": ["--accounting", "none"],
    "cgroup": ["--accounting", "none", "--cgroup"],
    "grace": ["--accounting", "none", "--grace", "40"],
}
T = TypeVar("T")


@dataclass(frozen=True)
class Queued:
    """A live job or array element, as ``squeue`` shows it."""

    id: str
    state: str
    reason: str
    node: str
    comment: str


def wait_for(condition: Callable[[], T], seconds: float, event: str) -> T:
    """Wait until the condition returns a true value, and return it; fail after the time limit.

    ``seconds`` is the limit on an idle machine. It is multiplied by ``SLOWNESS``.
    """
    deadline = time.monotonic() + SLOWNESS * seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {SLOWNESS * seconds:g} s for {event}")
        time.sleep(0.1)
    return value


class Lab:
    """A running cluster of two nodes, each with 4 CPUs, 8000 MB and 2 GPUs."""

    def __init__(self, flavor: str, first_port: int = FIRST_PORT) -> None:
        if os.geteuid() != 0:
            skip(NO_SLURM)
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-lab-"))
        self.folder.chmod(0o755)
        port, self.lock = reserve_ports(first_port)
        started = self._script("start.sh", *FLAVORS[flavor], "--port-base", str(port))
        if started.returncode:
            error = started.stderr.strip()
            self.stop()
            if started.returncode == UNSUPPORTED:
                reason = " ".join(error.split()).replace(f", see {self.folder}/apt.log", "")
                skip(f"Slurm's test cluster cannot start ({reason}); fix this as root")
            raise AssertionError(f"the cluster did not start:\n{error}")

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a user of this cluster."""
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SLURM_", "SBATCH_", "SNAKEMAKE_", "PYTEST_"))
        }
        variables["SLURM_CONF"] = str(self.folder / "etc/slurm.conf")
        return {**variables, "PYTHONPATH": str(REPOSITORY), **more}

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's commands and return its output."""
        result = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        assert not (check and result.returncode), f"{command}: {result.stderr}"
        return result.stdout

    def fault(self, name: str, *arguments: str) -> None:
        """Inject or undo a fault of ``cluster/fault.sh``."""
        result = self._script("fault.sh", name, *arguments)
        assert result.returncode == 0, f"fault {name}: {result.stderr}"

    def queue(self) -> list[Queued]:
        """Return the live jobs of the cluster."""
        lines = self.run("squeue", "-h", "-r", "-o", "%i|%T|%r|%N|%k").splitlines()
        return [Queued(*line.split("|", 4)) for line in lines]

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of live jobs in some states."""
        return [job.id for job in self.queue() if job.state in states]

    def wait_for_jobs(self, number: int, state: str = "RUNNING", seconds: float = 60) -> list[str]:
        """Wait until ``number`` jobs are in a state; return their ids."""
        ids: list[str] = []

        def has_number() -> bool:
            ids[:] = self.jobs(state)
            return len(ids) == number

        wait_for(has_number, seconds, f"{number} jobs {state}, there are {ids}")
        return ids

    def kill(self, job: str, **variables: str) -> None:
        """Send SIGKILL to the processes of a job that have the given environment variables."""
        array, _, index = job.partition("_")
        ids = {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": index}
        ids = ids if index else {"SLURM_JOB_ID": array}
        required = {f"{name}={value}" for name, value in {**ids, **variables}.items()}
        required.add(f"SLURM_CONF={self.folder}/etc/slurm.conf")
        pids = [
            pid
            for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
            if required <= _environment(pid)
        ]
        assert pids, f"no process of job {job} has {variables}"
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def reset(self) -> None:
        """Cancel all jobs and restart all daemons that a test has stopped."""
        nodes = [path.stem.removeprefix("slurmd.") for path in self.folder.glob("run/slurmd.*.pid")]
        for daemon, fault in (("slurmdbd", "dbd-up"), ("slurmctld", "ctld-up")):
            if (self.folder / "log" / f"{daemon}.log").exists() and not self._is_up(daemon):
                self.fault(fault)
        wait_for(self._answers, 60, "the controller")
        for node in nodes:
            if not self._is_up(f"slurmd.{node}"):
                self.fault("node-back", node)
        self.run("scancel", "--user=root", check=False)
        self.run("scancel", "--user=root", "--signal=KILL", "--full", check=False)
        wait_for(lambda: not self.queue(), 180, "an empty queue")
        for node in nodes:  # drained if killing a job's processes took too long
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        wait_for(lambda: self._idle() == len(nodes), 60, "all nodes to be idle")

    def stop(self) -> None:
        """Stop the cluster and remove its folder."""
        self._script("stop.sh", "--purge")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.close()

    def _script(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # A file and not a pipe: daemons inherit it, and a pipe would stay open.
        with tempfile.TemporaryFile("w+") as output:
            command = [CLUSTER / name, self.folder, *arguments]
            result: Any = subprocess.run(
                command,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            output.seek(0)
            result.stderr = output.read()
        return result

    def _is_up(self, daemon: str) -> bool:
        try:
            pid = (self.folder / "run" / f"{daemon}.pid").read_text().strip()
            return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False

    def _answers(self) -> bool:
        return "is UP" in self.run("scontrol", "ping", check=False)

    def _idle(self) -> int:
        return self.run("sinfo", "-h", "-N", "-p", "gpu", "-o", "%T").split().count("idle")


def skip(reason: str) -> None:
    """Skip the test; fail it instead if KD_REQUIRE_SLURM is set."""
    if os.environ.get("KD_REQUIRE_SLURM"):
        raise AssertionError(reason)
    pytest.skip(reason)


def reserve_ports(first: int) -> tuple[int, IO[str]]:
    """Return the first of a block of free ports, and a lock file that reserves them."""
    for base in range(first, LAST_PORT, PORTS):
        lock = open(Path(tempfile.gettempdir(), f"slurm-lab-{base}.lock"), "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        if all(_is_free(port) for port in range(base, base + PORTS)):
            return base, lock
        lock.close()
    raise AssertionError(f"no {PORTS} free ports from {first} on")


def _environment(pid: int) -> set[str]:
    try:
        return {*Path(f"/proc/{pid}/environ").read_text(errors="replace").split("\0")}
    except OSError:
        return set()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
