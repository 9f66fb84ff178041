"""Lock that allows one training of a run at a time, with a heartbeat.

The first process of a training locks a file of the run's directory (``flock``) and touches it every
``BEAT_SECONDS`` seconds, however long a step takes. The file names the process. The system releases
the lock when the process dies, so a run that was killed can be resumed at once.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from kd.common.errors import UserError
from kd.training import launch

FILE = ".training"
BEAT_SECONDS = 15.0
"""Seconds between two heartbeats."""
MOST_MISSED_BEATS = 3
"""Missed heartbeats after which a process of another machine counts as dead."""
P = ParamSpec("P")
R = TypeVar("R")


class TakenError(UserError):
    """Refusal of a run that another process trains."""


def exclusive(train: Callable[P, R]) -> Callable[P, R]:
    """Decorate ``train``, whose first argument is a run's directory, to hold the run's lock.

    In a group of processes the first one holds the lock for all.
    """

    @wraps(train)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        directory = Path(args[0] if args else kwargs["directory"])  # type: ignore[arg-type]
        if launch.rank() or not directory.is_dir():
            return train(*args, **kwargs)
        with held(directory):
            return train(*args, **kwargs)

    return locked


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a run's lock; TakenError, which names the holder, if another process has it."""
    with open(directory / FILE, "a+", encoding="utf-8") as file:
        os.register_at_fork(after_in_child=lambda: _forget(file))
        _take(file, directory)
        _write(file, {"host": socket.gethostname(), "pid": os.getpid(), "job": _job()})
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(file, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            _write(file, {})


def sign_of_life(directory: Path) -> float:
    """Return the seconds since the last heartbeat of a run's training; infinity after its end."""
    path = directory / FILE
    try:
        age = time.time() - path.stat().st_mtime
        return age if path.read_text(encoding="utf-8") not in ("", "{}") else float("inf")
    except OSError:
        return float("inf")


def check(directory: Path) -> None:
    """Raise TakenError if another process trains a run."""
    if (directory / FILE).exists():
        with open(directory / FILE, "a+", encoding="utf-8") as file:
            _take(file, directory)


def _take(file: Any, directory: Path) -> None:
    """Lock a file; TakenError if another process has it.

    Some network file systems have no such locks, or only within one machine. On these, and if the
    last holder was on another machine, a holder is alive as long as it touches the file.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locks = True
    except BlockingIOError:
        raise _holder_error(directory, _read(file)) from None
    except OSError:
        locks = False
    holder = _read(file)
    here = holder.get("host") == socket.gethostname()
    gone = here and (locks or not Path("/proc", str(holder.get("pid"))).exists())
    if not holder or gone or (_job() and holder.get("job") == _job()):
        return
    if _touched_meanwhile(file):
        raise _holder_error(directory, _read(file) or holder)


def _touched_meanwhile(file: Any) -> bool:
    """Return True as soon as a process touches a file, False after ``MOST_MISSED_BEATS``.

    The age of the file is no evidence, because clocks of two machines differ.
    """
    before, deadline = (
        os.fstat(file.fileno()).st_mtime_ns,
        time.monotonic() + MOST_MISSED_BEATS * BEAT_SECONDS,
    )
    while time.monotonic() < deadline:
        time.sleep(min(BEAT_SECONDS / 10, 1.0))
        if os.stat(file.name).st_mtime_ns != before:
            return True
    return False


def _holder_error(directory: Path, holder: dict[str, Any]) -> TakenError:
    job = f" (job {holder['job']})" if holder.get("job") else ""
    who = f", pid {holder['pid']} on {holder['host']}{job}" if "pid" in holder else ""
    return TakenError(
        f"{directory}: another process trains this run{who}; wait until it ends, or end it"
    )


def _beat(file: Any, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        os.utime(file.name)


def _job() -> str | None:
    return os.environ.get("SLURM_JOB_ID")


def _write(file: Any, holder: dict[str, Any]) -> None:
    """Overwrite the file in place: another inode would be another lock."""
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder))
    file.flush()


def _read(file: Any) -> dict[str, Any]:
    file.seek(0)
    try:
        holder = json.loads(file.read() or "{}")
    except ValueError:  # the holder is writing it
        return {}
    return holder if isinstance(holder, dict) else {}


def _forget(file: Any) -> None:
    """Close the lock in a forked process, which would hold it after its parent's end."""
    if not file.closed:
        file.close()
