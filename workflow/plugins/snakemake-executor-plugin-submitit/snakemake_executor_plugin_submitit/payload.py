"""Payload of a job: one Snakemake command, which is warned before the job is stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission, JobPaths

STOP_FILE = "SNAKEMAKE_STOP_FILE"
"""Environment variable with the path of the file that requests a command to save and end."""

SPARE = 10
"""Seconds of the warning time that are reserved for requeueing."""


POLL_SECONDS = 0.2

LAST_SECONDS = 5
"""Seconds between SIGTERM and SIGKILL for a command whose job ends."""


class CommandError(Exception):
    """Failure of the command of a job."""


class Payload:
    """Shell command that runs in a separate process group.

    On submitit's warning signal (time limit, preemption) the payload creates the stop file and
    waits for the command to end. After ``grace`` seconds it kills the command. The job is then
    requeued and runs the command again. If it may not be requeued, it ends with an error instead,
    and the executor submits it again.
    """

    def __init__(
        self,
        command: str,
        stop_file: str,
        grace: float,
        finished: bool = False,
        requeue: bool = True,
    ) -> None:
        self.command, self.stop_file, self.grace = command, stop_file, grace
        self.finished, self.requeue = finished, requeue
        self._child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command; raise CommandError if it fails."""
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
            self._succeeds_by(time.monotonic() + LAST_SECONDS)
            self._kill(signal.SIGKILL)
            raise
        if status:
            raise CommandError(_describe(status))

    def checkpoint(self) -> "DelayedSubmission | None":
        """Let the command save and end; return the submission for the next start of the job.

        Return None if the job may not be requeued: submitit then ends it with an error.
        """
        from submitit.core.utils import DelayedSubmission

        from snakemake_executor_plugin_submitit import slurm

        deadline = time.monotonic() + self.grace
        Path(self.stop_file).touch()
        finished = self._succeeds_by(deadline)
        self._kill(signal.SIGKILL)
        if finished:
            _note_success()
        if not self.requeue:
            return sys.exit(0) if finished else None
        if "SLURM_JOB_ID" in os.environ:  # if Slurm refuses the requeue, the job is lost
            slurm.responds(max(deadline - time.monotonic(), SPARE / 2))
        return DelayedSubmission(Payload(self.command, self.stop_file, self.grace, finished))

    def _succeeds_by(self, deadline: float) -> bool:
        """Wait for the command to end; return True if it ended with exit status 0 in time."""
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
    """Return the exit status of a child process; a negative one is a signal number.

    This function polls, because a signal that the system delivers to another thread does not
    interrupt a blocking wait, so its handler would run too late. It does not use ``Popen.poll``:
    the signal handler runs ``checkpoint``, which would wait for a lock that the interrupted call
    holds.
    """
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_SECONDS)


def _describe(status: int) -> str:
    if status < 0:
        return f"the command was killed by {signal.Signals(-status).name}"
    return f"the command failed with exit status {status}"


def _paths() -> "JobPaths | None":
    """Return the paths of submitit's files for this job; None outside a job."""
    if "SUBMITIT_FOLDER" not in os.environ:
        return None
    from submitit import JobEnvironment

    return JobEnvironment().paths


def _note_success() -> None:
    """Write the result of a command that succeeded before its job is requeued.

    Requeueing may have to wait for the controller, and the job may be killed before that.
    """
    from submitit.core import utils

    paths = _paths()
    if paths:
        with utils.temporary_save_path(paths.result_pickle) as temporary:
            utils.cloudpickle_dump(("success", None), temporary)


def _has_succeeded() -> bool:
    """Return True if an earlier start of this job succeeded; otherwise remove its result.

    Slurm requeues a finished job if its node or controller fails before Slurm records the end.
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
