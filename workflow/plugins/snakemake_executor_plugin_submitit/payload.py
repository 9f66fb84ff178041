"""What runs inside a job: one Snakemake command, told in time when the job is about to end."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission, JobPaths

STOP_FILE = "SNAKEMAKE_STOP_FILE"
"""Names the file that appears when a command shall save what it has and end."""

SPARE = 10
"""Seconds kept of the warning time for requeueing."""


POLL_SECONDS = 0.2

LAST_SECONDS = 5
"""Given to a command that is ended because its job is."""


class CommandError(Exception):
    """The command did not succeed."""


class Payload:
    """Runs a shell command in a process group of its own.

    On submitit's warning signal (time limit, preemption) it creates the stop file, waits for the
    command to end, ends it after ``grace`` seconds, and is requeued to run again.
    """

    def __init__(self, command: str, stop_file: str, grace: float, finished: bool = False) -> None:
        self.command, self.stop_file, self.grace = command, stop_file, grace
        self.finished = finished
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command; CommandError where it fails."""
        if self.finished or _has_succeeded():
            return
        Path(self.stop_file).unlink(missing_ok=True)
        environment = {**os.environ, STOP_FILE: self.stop_file}
        command = ["/bin/bash", "-c", self.command]
        self._child = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            status = _wait(self._child.pid)
        except BaseException:
            self._kill(signal.SIGTERM)
            self._ended_well(time.monotonic() + LAST_SECONDS)
            self._kill(signal.SIGKILL)
            raise
        if status:
            raise CommandError(_describe(status))

    def checkpoint(self) -> "DelayedSubmission":
        """Let the command save and end; return what to run when the job starts again."""
        from submitit.core.utils import DelayedSubmission

        from snakemake_executor_plugin_submitit import slurm

        deadline = time.monotonic() + self.grace
        Path(self.stop_file).touch()
        finished = self._ended_well(deadline)
        self._kill(signal.SIGKILL)
        if finished:
            _note_success()
        if "SLURM_JOB_ID" in os.environ:  # a requeue that is refused would lose the job
            slurm.responds(max(deadline - time.monotonic(), SPARE / 2))
        return DelayedSubmission(Payload(self.command, self.stop_file, self.grace, finished))

    def _ended_well(self, deadline: float) -> bool:
        """Wait for the command to end; return whether it had already done all there was to do."""
        while self._child and time.monotonic() < deadline:
            try:
                pid, status = os.waitpid(self._child.pid, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid:
                return status == 0
            time.sleep(0.1)
        return False

    def _kill(self, sign: int) -> None:
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child.pid, sign)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None}


def _wait(pid: int) -> int:
    """Return the exit status of a child, negative for a signal.

    Asked again and again: a signal that the system gives to another thread does not interrupt a
    blocking wait, and its handler would run when it is too late. Not by ``Popen.poll``: the handler
    that runs ``checkpoint`` would wait for a lock that the interrupted line holds.
    """
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_SECONDS)


def _describe(status: int) -> str:
    if status < 0:
        return f"the command was ended by {signal.Signals(-status).name}"
    return f"the command ended with status {status}"


def _paths() -> "JobPaths | None":
    """Return where submitit keeps what it knows of this job; nothing outside of one."""
    if "SUBMITIT_FOLDER" not in os.environ:
        return None
    from submitit import JobEnvironment

    return JobEnvironment().paths


def _note_success() -> None:
    """Leave the result of a command that ended well before its job is requeued.

    The requeueing may have to wait for the controller, and the job may not live to see it.
    """
    from submitit.core import utils

    paths = _paths()
    if paths:
        with utils.temporary_save_path(paths.result_pickle) as temporary:
            utils.cloudpickle_dump(("success", None), temporary)


def _has_succeeded() -> bool:
    """Return whether an earlier start of this job ended well; remove what else it has left.

    Slurm requeues a finished job whose end it has not heard of when its node or controller fails.
    """
    from snakemake_executor_plugin_submitit.verdict import read_outcome

    paths = _paths()
    if paths is None:
        return False
    for path in (paths.result_pickle, paths.submitted_pickle):
        path.with_name(f"{path.name}.save_tmp").unlink(missing_ok=True)
    if read_outcome(paths.result_pickle) == ("success", ""):
        return True
    paths.result_pickle.unlink(missing_ok=True)
    return False
