"""Launcher of several processes for one training, by srun or on this machine, without torch."""

import ctypes
import hashlib
import io
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import read_json
from kd.common.lists import divisors
from kd.config.composed import ComposedConfig

logger = logging.getLogger(__name__)

STOP_FILE = "SNAKEMAKE_STOP_FILE"
"""Variable with the path of a file that requests a stop; the executor plugin sets it."""
STOPPED = os.EX_TEMPFAIL
"""Exit status of a training that stopped on request; the same command resumes it."""
GROUP_VARIABLE = "KD_GROUP"
"""Variable that is set in processes of ``launch``, to ``here`` or ``srun``."""
FAILURE, CLAIM = "failure.json", ".failed"
START_VARIABLES = (
    *("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"),
    *("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_ID"),
)
"""Variables of the environment that are equal in all processes of one start."""
SRUN_ERROR = re.compile(r"srun: error: (?P<node>\S+): tasks? (?P<number>[\d,-]+): (?P<end>.*\S)")
POLL_SECONDS, TERMINATION_SECONDS = 0.1, 10.0
"""Seconds between polls of processes, and until processes that ignore SIGTERM are killed."""


class StopRequested(Exception):  # noqa: N818
    """Stop of a training on request, after it saved a checkpoint."""

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(
            f"stopped at step {step} of {steps} on request; run the same command to resume"
        )


class LostProcessError(UserError):
    """Loss of a process of the group, which recorded its failure itself."""


def per_process(batch_size: int, processes: int) -> int:
    """Return a process's share of the total batch size; UserError if it does not divide."""
    if batch_size % processes:
        raise UserError(
            f"a total batch of {batch_size} cannot be shared by {processes} processes; change "
            "--processes"
        )
    return batch_size // processes


def check_parts(batch_size: int, processes: int, accumulate: int, directory: Path) -> None:
    """Raise UserError if a run's batch cannot be divided among processes and equal parts."""
    path = directory / "config.json"
    try:
        images = per_process(batch_size, processes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if images % accumulate:
        shared = f" on each of {processes} processes" if processes > 1 else ""
        raise UserError(
            f"{path}: {images} images{shared} cannot be computed in {accumulate} equal parts; "
            f"valid for --accumulate: {', '.join(map(str, divisors(images)))}"
        )


def rank() -> int:
    """Return this process's number in its group, also before the group is initialized."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Return the number of processes in this process's group."""
    return int(os.environ.get("WORLD_SIZE", 1))


def launched() -> bool:
    """Return True if ``launch`` started this process and reports how its group ended."""
    return GROUP_VARIABLE in os.environ


def claim(directory: Path) -> Path:
    """Return the file that the first process of this start to fail creates."""
    start = "\n".join(os.environ.get(name, "") for name in START_VARIABLES)
    return directory / f"{CLAIM}-{hashlib.sha256(start.encode()).hexdigest()[:8]}"


def forget_failures(directory: Path) -> None:
    """Delete records of failures of earlier starts.

    Records of this start stay: a process of the group may have failed before the first one calls
    this function.
    """
    current = claim(directory)
    failed = world() > 1 and current.exists()
    for path in directory.glob(f"{CLAIM}*"):
        if path != current or not failed:
            path.unlink(missing_ok=True)
    if not failed:
        (directory / FAILURE).unlink(missing_ok=True)


def set_rank() -> None:
    """Set the ranks that torch reads from those of srun."""
    if os.environ.get(GROUP_VARIABLE) == "srun" and "RANK" not in os.environ:
        os.environ["RANK"] = os.environ["SLURM_PROCID"]
        os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]


def launch(
    directory: Path,
    processes: int,
    arguments: list[str],
    folder: Path | None = None,
    accumulate: int = 1,
) -> int:
    """Run ``kd`` with these arguments in each process of a group; return the exit status.

    ``folder``: working directory of the processes, to which paths in the arguments are relative.
    ``accumulate``: the parts of each process's batch, to check that they are equal.
    The status is that of the first process that failed. A line reports a process that was killed.
    A process that stops on request exits with 0, because srun ends the others at any other status.
    """
    from kd.training import run_lock

    config = ComposedConfig.read(directory)
    if config.has_split("train"):
        check_parts(config.batch_size, processes, accumulate, directory)
    run_lock.check(directory)
    forget_failures(directory)
    trained = _stamp(directory / "provenance.json")
    command = [sys.executable, "-m", "kd", *arguments]
    with _ended_by_sigterm():
        status = (_by_srun if _has_srun() else _here)(command, processes, directory, folder)
    if status or (directory / FAILURE).exists():
        return status or 1
    return STOPPED if _stamp(directory / "provenance.json") == trained else 0


def _here(command: list[str], processes: int, directory: Path, folder: Path | None) -> int:
    """Start the processes on this machine; end all if one fails."""
    shared = os.environ | _meeting("127.0.0.1", processes) | {GROUP_VARIABLE: "here"}
    children: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(processes):
            environment = shared | {"RANK": str(number), "LOCAL_RANK": str(number)}
            child = subprocess.Popen(
                command, cwd=folder, env=environment, preexec_fn=end_with_parent
            )
            children.append(child)
        number, status = _first_failure(children)
    finally:
        _end(children)
    if status >= 0:
        return status
    _report(directory, f"process {number} of {processes} was killed by signal {-status}", -status)
    return 128 - status


def _first_failure(children: list[subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Wait for the first process that fails; return its number and status, (0, 0) if none does.

    If several fail at once, a killed one is the cause: the others fail because it is gone.
    """
    while True:
        codes = [child.poll() for child in children]
        failed = [(code, number) for number, code in enumerate(codes) if code]
        if failed:
            code, number = min(failed)
            return number, code
        if None not in codes:
            return 0, 0
        time.sleep(POLL_SECONDS)


def _by_srun(command: list[str], processes: int, directory: Path, folder: Path | None) -> int:
    """Start the processes as tasks of a job step, on all nodes of the allocation."""
    shared = os.environ | _meeting(socket.gethostname(), processes) | {GROUP_VARIABLE: "srun"}
    srun = ["srun", "--ntasks", str(processes), "--kill-on-bad-exit=1", "--export=ALL"]
    threads = os.environ.get("SLURM_CPUS_PER_TASK")  # srun does not inherit it
    step = subprocess.Popen(
        [*srun, *(["--cpus-per-task", threads] if threads else []), *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=shared,
    )
    try:
        number, node, ending = _first_error(step)
        status = step.wait()
    finally:
        _end([step])
    status = status if status >= 0 else 128 - status
    if status <= 128 or _cause(directory) not in (None, "LostProcessError"):
        return status
    numbers = {signal.strsignal(number): number for number in signal.valid_signals()}
    killed_by = numbers.get(ending)
    outcome = f"was killed by signal {killed_by}" if killed_by else f"ended: {ending}"
    _report(directory, f"process {number} of {processes}, on {node}, {outcome}", killed_by)
    return 128 + killed_by if killed_by else status


def _first_error(step: subprocess.Popen[bytes]) -> tuple[str, str, str]:
    """Log the errors of a job step; return number, node and end of the first that failed.

    The first is the cause: srun ends the others, and its own status is that of any of them.
    """
    assert step.stderr is not None
    first = None
    for line in io.TextIOWrapper(step.stderr, encoding="utf-8", errors="replace"):
        logger.error(line.rstrip("\n"))
        first = first or SRUN_ERROR.match(line)
    if first is None:
        return "?", "a node", "srun printed no reason"
    return first["number"], first["node"], first["end"]


def _has_srun() -> bool:
    """Return True if srun starts the processes; UserError if it is missing and necessary."""
    if "SLURM_JOB_ID" not in os.environ:
        return False
    if shutil.which("srun"):
        return True
    if os.environ.get("SLURM_JOB_NUM_NODES", "1") != "1":
        raise UserError("srun: not found, and this job has several nodes; add it to PATH")
    return False


def _meeting(address: str, processes: int) -> dict[str, str]:
    """Return the variables by which torch connects the processes.

    Their threads are those of ``--threads``, by default one as with torchrun.
    """
    threads = {name: os.environ.get(name, "1") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    return threads | group


def _report(directory: Path, problem: str, number: int | None) -> None:
    """Log the end of a process that was killed, and record it as the run's failure.

    SIGTERM is no failure of the run: a user or a preempting job ended it.
    """
    from kd.records.provenance import write_failure

    logger.error("error: %s", problem)
    if number != signal.SIGTERM:
        write_failure(directory, UserError(problem))


def _cause(directory: Path) -> str | None:
    path = directory / FAILURE
    return read_json(path)["kind"] if path.exists() else None


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return inode and time of a file, which change when it is replaced; None without it."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _end(children: list[subprocess.Popen[bytes]]) -> None:
    for child in children:
        child.terminate()
    deadline = time.monotonic() + TERMINATION_SECONDS
    for child in children:
        try:
            child.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Handle SIGTERM by an exit, which ends this process's children first."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def end_with_parent() -> None:
    """Let the system kill this process when its parent dies for any reason."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
