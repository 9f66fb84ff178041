"""Logs of a run: their paths, their last lines, and text appended while the run works."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kd.monitoring.queue import queue_snapshot
from kd.monitoring.run_names import find_run
from kd.monitoring.runs import monitored_run
from kd.monitoring.status import EVALUATING, LIVE, Status, run_status

POLL_SECONDS = 0.5
STATUS_SECONDS = 15
"""Seconds between two status queries while the run's files do not change."""
END_FILES = ("provenance.json", "metrics.json", "failure.json")
"""Files whose change may mean that a run has ended."""
TAIL_BYTES = 1 << 20
"""Bytes at the end of a log that are searched for its last lines."""


class RunLog:
    """Log of the step that a run is at, found by the run's directory or parts of its name."""

    def __init__(self, words: Sequence[str]) -> None:
        self.run = monitored_run(_relative(find_run(*words)))
        self.status = run_status(self.run, queue_snapshot())
        self.path = _current_log(self.status)

    @property
    def is_live(self) -> bool:
        return self.status.detail in LIVE

    def paths(self) -> str:
        """Return the paths of all logs of the run, one per line."""
        paths = {
            "training log": Path(self.status.log),
            "prediction log": self.run.directory / "predict.log",
            "Slurm log": Path(self.status.slurm_log) if self.status.slurm_log else None,
            "failure": self.run.directory / "failure.json",
        }
        lines = [
            f"{label + ':':<16}{path}"
            for label, path in paths.items()
            if path and (path.exists() or label == "training log")
        ]
        return "\n".join(lines)

    def state(self) -> str:
        """Return the state of the run in one line."""
        job = f", job {self.status.job}" if self.status.job else ""
        note = f": {self.status.explanation}" if self.status.explanation else ""
        return f"{'state:':<16}{self.status.state}{job}{note}"

    def text(self, lines: int, follow: bool) -> Iterator[str]:
        """Yield the last lines; with ``follow``, appended text until the run ends."""
        tail = _Tail(self.path)
        yield tail.last_lines(lines)
        if not (follow and self.is_live):
            return
        changes, queried = self._changes(), time.monotonic()
        while self.is_live:
            yield tail.appended()
            new_changes = self._changes()
            if new_changes != changes or time.monotonic() - queried > STATUS_SECONDS:
                self.status = run_status(self.run, queue_snapshot())
                changes, queried = new_changes, time.monotonic()
            else:
                time.sleep(POLL_SECONDS)
        yield tail.appended()

    def _changes(self) -> list[float]:
        """Return the modification times of the files that may mean the end."""
        files = (self.run.directory / name for name in END_FILES)
        return [path.stat().st_mtime if path.exists() else 0.0 for path in files]


def _relative(directory: Path) -> Path:
    """Return a directory relative to the working directory, if it is below it."""
    resolved = directory.resolve()
    here = Path.cwd()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else directory


def _current_log(status: Status) -> Path:
    """Return the log of the step at work, or of the last step that wrote one."""
    training, prediction = Path(status.log), Path(status.run) / "predict.log"
    if status.detail == EVALUATING or (prediction.exists() and not training.exists()):
        return prediction
    if not training.exists() and status.slurm_log and Path(status.slurm_log).exists():
        return Path(status.slurm_log)
    return training


class _Tail:
    """Reader of a growing file, which starts again if the file is replaced or truncated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inode, self.position = 0, 0

    def last_lines(self, count: int) -> str:
        """Return the last lines and remember where they end."""
        self.inode, size = self._inode_and_size()
        self.position = max(size - TAIL_BYTES, 0)
        lines = self._read_to(size).splitlines(keepends=True)
        return "".join(lines[-count:] if count else [])

    def appended(self) -> str:
        """Return the text written since the last call."""
        inode, size = self._inode_and_size()
        if inode != self.inode or size < self.position:
            self.inode, self.position = inode, 0
        return self._read_to(size)

    def _read_to(self, end: int) -> str:
        if end <= self.position:
            return ""
        with open(self.path, "rb") as stream:
            stream.seek(self.position)
            content = stream.read(end - self.position)
        self.position += len(content)
        return content.decode(errors="replace")

    def _inode_and_size(self) -> tuple[int, int]:
        try:
            stat = self.path.stat()
        except OSError:
            return 0, 0
        return stat.st_ino, stat.st_size
