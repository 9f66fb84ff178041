"""One training of a run at a time: a lock that ends with its process, and a sign of life.

The first process of a training locks a file of the run's directory (``flock``) and touches it every
``BEAT`` seconds, however long a step takes. The file holds who trains. The system releases the lock
when the process dies, so a run that was killed can be resumed at once.
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
BEAT = 15.0
"""Seconds between two signs of life."""
STILL = 3
"""Beats without a sign of life after which a process of another machine is taken for dead."""
P = ParamSpec("P")
R = TypeVar("R")


class TakenError(UserError):
    """Another process trains the run."""


def exclusive(train: Callable[P, R]) -> Callable[P, R]:
    """Return ``train``, whose first argument is a run's directory, in one process at a time.

    Of a group of processes the first one holds the lock for all.
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
    """Hold a run's lock; TakenError, which names the holder, where another process has it."""
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
    """Return the seconds since a run's training was last seen alive; infinity after its end."""
    path = directory / FILE
    try:
        age = time.time() - path.stat().st_mtime
        return age if path.read_text(encoding="utf-8") not in ("", "{}") else float("inf")
    except OSError:
        return float("inf")


def check(directory: Path) -> None:
    """Raise TakenError where another process trains a run."""
    if (directory / FILE).exists():
        with open(directory / FILE, "a+", encoding="utf-8") as file:
            _take(file, directory)


def _take(file: Any, directory: Path) -> None:
    """Lock a file; TakenError where another process has it.

    Some network file systems have no such locks, or keep them to one machine. There, and where the
    last holder was on another machine, a holder lives as long as it touches the file.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locks = True
    except BlockingIOError:
        raise _taken(directory, _read(file)) from None
    except OSError:
        locks = False
    holder = _read(file)
    here = holder.get("host") == socket.gethostname()
    gone = here and (locks or not Path("/proc", str(holder.get("pid"))).exists())
    if not holder or gone or (_job() and holder.get("job") == _job()):
        return
    if _touched_meanwhile(file):
        raise _taken(directory, _read(file) or holder)


def _touched_meanwhile(file: Any) -> bool:
    """Return True as soon as somebody touches a file, False after ``STILL`` beats without it.

    Clocks of two machines differ, so the age of the file says nothing.
    """
    before, deadline = os.fstat(file.fileno()).st_mtime_ns, time.monotonic() + STILL * BEAT
    while time.monotonic() < deadline:
        time.sleep(min(BEAT / 10, 1.0))
        if os.stat(file.name).st_mtime_ns != before:
            return True
    return False


def _taken(directory: Path, holder: dict[str, Any]) -> TakenError:
    job = f" (job {holder['job']})" if holder.get("job") else ""
    who = f", pid {holder['pid']} on {holder['host']}{job}" if "pid" in holder else ""
    return TakenError(
        f"{directory}: another process trains this run{who}; wait until it ends, or end it"
    )


def _beat(file: Any, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        os.utime(file.name)


def _job() -> str | None:
    return os.environ.get("SLURM_JOB_ID")


def _write(file: Any, holder: dict[str, Any]) -> None:
    """Replace the file's content in its place: another inode would be another lock."""
    file.seek(0)
    file.truncate()
    file.write(json.dumps(holder))
    file.flush()


def _read(file: Any) -> dict[str, Any]:
    file.seek(0)
    try:
        holder = json.loads(file.read() or "{}")
    except ValueError:  # half of it is written
        return {}
    return holder if isinstance(holder, dict) else {}


def _forget(file: Any) -> None:
    """Close a lock in a forked process, which would hold it beyond its parent's end."""
    if not file.closed:
        file.close()
