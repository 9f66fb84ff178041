"""A run's logs: where they are, their last lines, and what is added while the run is going."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from kd.common.errors import UserError
from kd.monitoring.queue import Target, look, on_disk, target_of
from kd.monitoring.status import EVALUATING, LIVE, Status, status

POLL = 0.5
ASK = 15
"""Seconds between two questions to the queue, where a run's files say nothing new."""
ENDS = ("provenance.json", "metrics.json", "failure.json")
SHOWN = 5
LONGEST = 1 << 20
"""Bytes at the end of a log in which its last lines are looked for."""


def follow(words: Sequence[str], lines: int, live: bool = True) -> None:
    """Print a run's log; while it is going and ``live``, all that is added, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        target = target_of(find(words, on_disk()))
        now = status(target, look())
        log = _log(now)
        _tell(target, now)
        shown = _Tail(log, lines)
        if live and now.state in LIVE:
            _until_it_ends(target, shown)
            _say(status(target, look()))
        elif not log.exists():
            print(f"{log}: not written yet", file=sys.stderr)


def find(words: Sequence[str], runs: Sequence[Path]) -> Path:
    """Return the one run that is a directory given, or whose name has all words in it."""
    given = Path(words[0])
    if len(words) == 1 and (given / "config.json").exists():
        return _below_here(given)
    names = {"/".join(run.parts[1:]): run for run in runs}
    fitting = [name for name in names if all(word in name for word in words)]
    asked = " ".join(words)
    if not runs:
        raise UserError("results holds no run yet; `snakemake` starts them")
    if len(fitting) == 1:
        return names[fitting[0]]
    if fitting:
        listed = _listed(fitting)
        raise UserError(
            f"'{asked}' fits {len(fitting)} runs; say which, by its last part: {listed}"
        )
    parts = {part for name in names for whole in name.split("/") for part in whole.split("_from_")}
    close = get_close_matches(asked, parts, SHOWN)
    near = [name for part in close for name in names if part in name]
    meant = (
        f"did you mean {_listed(list(dict.fromkeys(near)))}" if near else "`kd status` lists them"
    )
    raise UserError(f"no run under results is called '{asked}'; {meant}")


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _below_here(directory: Path) -> Path:
    resolved = directory.resolve()
    here = Path.cwd()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else directory


def _log(now: Status) -> Path:
    """Return what the step at work prints, or the last one that did."""
    directory = Path(now.run)
    training, prediction = Path(now.log), directory / "predict.log"
    if now.state == EVALUATING or (prediction.exists() and not training.exists()):
        return prediction
    if not training.exists() and now.slurm_log and Path(now.slurm_log).exists():
        return Path(now.slurm_log)
    return training


def _tell(target: Target, now: Status) -> None:
    """Say where all logs of a run are, and how it is."""
    paths = {
        "training log": Path(now.log),
        "prediction log": target.directory / "predict.log",
        "Slurm log": Path(now.slurm_log) if now.slurm_log else None,
        "failure": target.directory / "failure.json",
    }
    for what, path in paths.items():
        if path and (path.exists() or what == "training log"):
            print(f"{what + ':':<16}{path}", file=sys.stderr)
    _say(now)


def _say(now: Status) -> None:
    job = f", job {now.job}" if now.job else ""
    note = f": {now.note}" if now.note else ""
    print(f"{'state:':<16}{now.state}{job}{note}", file=sys.stderr, flush=True)


def _until_it_ends(target: Target, shown: "_Tail") -> None:
    """Print what is added to a log until the run's files or the queue say that it has ended."""
    seen, asked = _changes(target), time.monotonic()
    while True:
        shown.print_new()
        changes = _changes(target)
        if changes != seen or time.monotonic() - asked > ASK:
            if status(target, look()).state not in LIVE:
                return shown.print_new()
            seen, asked = changes, time.monotonic()
        time.sleep(POLL)


def _changes(target: Target) -> list[float]:
    files = (target.directory / name for name in ENDS)
    return [path.stat().st_mtime if path.exists() else 0.0 for path in files]


class _Tail:
    """Prints a file's last lines, then what is added to it; one that is replaced from its start."""

    def __init__(self, path: Path, lines: int) -> None:
        self.path = path
        self.inode, size = self._place()
        self.position = max(size - LONGEST, 0)
        last = self._read(size).splitlines(keepends=True)
        print("".join(last[-lines:] if lines else []), end="", flush=True)

    def print_new(self) -> None:
        inode, size = self._place()
        if inode != self.inode or size < self.position:
            self.inode, self.position = inode, 0
        if size > self.position:
            print(self._read(size), end="", flush=True)

    def _read(self, end: int) -> str:
        if end == self.position:
            return ""
        with open(self.path, "rb") as stream:
            stream.seek(self.position)
            added = stream.read(end - self.position)
        self.position += len(added)
        return added.decode(errors="replace")

    def _place(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_size
