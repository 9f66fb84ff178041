"""Runner of commands within an amount of time: each has a budget and inherits unspent time.

Commands run in the order of their value. A command that does not fit the time left is skipped, and
the smaller ones after it still run. A command that exceeds its limit is stopped with its children.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from benchmarks.report import FOLDER

ROOT = Path(__file__).resolve().parents[2]
TERMINATION_SECONDS = 5.0
"""Seconds until a stopped command that ignores SIGTERM is killed."""
LONGEST_REASON = 200
"""Characters of an error's line that a reason quotes."""
ERROR = re.compile(r"^[\w.]*(error|Error|Exception)\b")
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Requirement = Callable[[], str]
"""Function that returns the reason why a machine cannot run a command; empty if it can."""


class Part(NamedTuple):
    """One command of a suite and the seconds of its budget."""

    name: str
    arguments: str
    """Program in ``benchmarks`` and its options."""
    seconds: float
    needs: tuple[Requirement, ...] = ()


class Outcome(NamedTuple):
    """End of a part: done, skipped, stopped or failed."""

    part: Part
    state: str
    reason: str = ""

    @property
    def line(self) -> str:
        """Return one line with command and reason."""
        return f"`{self.part.arguments}`: {self.state}: {self.reason}."


class Interrupted(SystemExit):
    """Exit of a suite on a signal; its status is that of a death by it."""


def limit(part: Part, later: Sequence[Part], seconds: float) -> float:
    """Return the seconds that a part may take of those left: its budget and what others spare."""
    return min(seconds, max(part.seconds, seconds - sum(other.seconds for other in later)))


def run_all(
    parts: Sequence[Part],
    end: float,
    command: Callable[[Part], list[str]],
    logs: Path,
) -> Iterator[Outcome]:
    """Run the parts until ``end`` (``time.monotonic``); yield how each ended.

    ``command``: returns the command line of a part. ``logs``: folder of the parts' output.
    """
    logs.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        reasons = filter(None, (need() for need in part.needs))
        left = end - time.monotonic()
        if reason := next(reasons, ""):
            yield Outcome(part, "skipped", reason)
        elif left < part.seconds:
            reason = f"it may take {part.seconds:g} s, and {max(left, 0):.0f} s are left"
            yield Outcome(part, "skipped", f"{reason} (--minutes)")
        else:
            seconds = limit(part, parts[number + 1 :], left)
            yield _run(part, command(part), seconds, logs / f"{part.name}.log")


def _run(part: Part, command: list[str], seconds: float, log: Path) -> Outcome:
    """Run the command of a part; its children end with it."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return Outcome(part, "stopped", f"after {seconds:.0f} s, its limit")
        finally:
            _end(process)
    if status:
        return Outcome(part, "failed", f"status {status}: {last_line(log)}; see {log}")
    return Outcome(part, "done")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its session; the processes of a loader outlive a killed parent."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(TERMINATION_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def last_line(log: Path) -> str:
    """Return the last line of an output with an error, or its last line, shortened."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if ERROR.search(line)]
    return (errors or lines or ["no output"])[-1].strip()[:LONGEST_REASON]


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted at the first signal that ends a process; ignore further ones.

    The block can then end its children and write its results.
    """

    def leave(number: int, frame: Any) -> NoReturn:
        for other in STOPPING:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(128 + number)

    handlers = {number: signal.signal(number, leave) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def benchmark(part: Part, name: str, options: Sequence[str]) -> list[str]:
    """Return the command line of a benchmark that writes results called ``name``.

    With ``--tiny`` the benchmark sets the options of the part itself.
    """
    program, *arguments = part.arguments.split()
    settings = [] if "--tiny" in options else arguments
    path = str(ROOT / "benchmarks" / program)
    return [sys.executable, path, *settings, "--name", name, *options]


def result(name: str) -> Path:
    """Return the file of a benchmark's results."""
    return FOLDER / f"{name}.json"
