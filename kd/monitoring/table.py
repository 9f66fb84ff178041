"""What ``kd status`` prints: a table as wide as the terminal, or JSON."""

import json
import os
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from statistics import median

from kd.common.durations import duration
from kd.monitoring.queue import Asked, Look, look, targets
from kd.monitoring.slurm_reasons import ENDED, PENDING, REQUEUED, RUNNING, STARTING, SUSPENDED
from kd.monitoring.status import (
    DONE,
    EVALUATING,
    FAILED,
    INTERRUPTED,
    SUBMITTED,
    TRAINED,
    UNSTARTED,
    WAITING,
    Status,
    other_jobs,
    survey,
)

STATES = (DONE, TRAINED, EVALUATING, RUNNING, STARTING, REQUEUED, PENDING, SUBMITTED, SUSPENDED,
          ENDED, INTERRUPTED, FAILED, WAITING, UNSTARTED)  # fmt: skip
"""In the order of the last line."""
COLOURS = {
    **dict.fromkeys([DONE, TRAINED], 32),
    **dict.fromkeys([EVALUATING, RUNNING, STARTING], 36),
    **dict.fromkeys([PENDING, REQUEUED, SUBMITTED, SUSPENDED], 33),
    **dict.fromkeys([ENDED, INTERRUPTED, FAILED], 31),
}
DIM, BOLD = 2, 1
COLUMNS = ("id", "training", "seed", "state", "job", "node", "epoch", "step", "img/s", "left", "AP")
AFTER = COLUMNS[COLUMNS.index("state") :]
NUMBERS = frozenset(["epoch", "step", "img/s", "left", "AP"])
LEAST = ("node", "img/s", "epoch", "job", "left")
"""What a narrow terminal does without, in this order."""
INDENT = 12
"""Of what is said below a run: two spaces, eight digits, two spaces."""
CLEAR = "\033[H\033[2J"
ABSENT = "\u2013"
WITH_LOG = frozenset([RUNNING, INTERRUPTED, FAILED, ENDED])
IDLE = frozenset([WAITING, UNSTARTED])
QUIET = IDLE | {DONE, TRAINED}
PIPED = (120, 0)
"""Columns and lines where the output is no terminal."""
Paint = Callable[[str, int], str]


def show(asked: Asked, as_json: bool = False, every: float | None = None) -> None:
    """Print where every run is, once or, with ``every``, each so many seconds until Ctrl-C."""
    try:
        while True:
            seen = look()
            found = survey(targets(asked, seen), seen)
            terminal = sys.stdout.isatty()
            width, height = shutil.get_terminal_size(PIPED)
            redrawn = bool(every) and terminal and not as_json
            if as_json:
                print(to_json(found, seen), flush=True)
            else:
                text = table(found, seen, width, height if redrawn else 0, terminal)
                print(CLEAR + text if redrawn else text, flush=True)
            if not every:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        if not every:
            raise


def to_json(found: Sequence[Status], seen: Look) -> str:
    """Return the same for scripts."""
    runs = [asdict(status) for status in found]
    summary = {"states": _counts(found), "seconds_left": _remaining(found)[0]}
    others = [asdict(status) for status in other_jobs(seen)]
    content = {"runs": runs, "other_jobs": others, "trouble": seen.trouble or None, **summary}
    return json.dumps(content, indent=1)


def table(
    found: Sequence[Status], seen: Look, width: int = 120, height: int = 0, colour: bool = False
) -> str:
    """Return a line per run, under a heading for what their names begin with, and a sum.

    With a ``height`` log paths are left out and, if need be, runs that nothing happens to.
    """
    paint = _paint if colour and "NO_COLOR" not in os.environ else _plain
    text = _lines(found, width, paint, logs=not height)
    if height and len(text) + 6 > height:
        active = [status for status in found if status.state not in QUIET]
        text = _lines(active, width, paint, logs=False)[: height - 7]
        text.append(paint("… shortened to this window; `kd status` shows all", DIM))
    text += _others(other_jobs(seen), paint)
    below = [*textwrap.wrap(seen.trouble, width), *textwrap.wrap(summary(found), width)]
    if _remaining(found)[0] is None:
        unknown = "time left: unknown before one of each kind runs; see `kd plan STUDY --budget`"
        below += textwrap.wrap(unknown, width)
    hint = paint("`kd logs ID` prints a run's log and follows it", DIM)
    return "\n".join([*text, "", *below, hint])


def _others(found: Sequence[Status], paint: Paint) -> list[str]:
    lines = [paint("other jobs", BOLD)] if found else []
    for status in found:
        state = paint(status.state, COLOURS[status.state])
        told = [status.run, state, f"job {status.job}" if status.job else "", status.note]
        lines.append("  " + "  ".join(part for part in told if part))
    return lines


def summary(found: Sequence[Status]) -> str:
    """Return how many runs are in which state, and about how long the rest takes."""
    counts = ", ".join(f"{count} {state}" for state, count in _counts(found).items())
    left, at_once = _remaining(found)
    times = f"; about {duration(left)} left, {at_once} at once" if left else ""
    return f"{len(found)} run{'s' * (len(found) != 1)}: {counts}{times}"


def _counts(found: Sequence[Status]) -> dict[str, int]:
    counted = Counter(status.state for status in found)
    return {state: counted[state] for state in STATES if counted[state]}


def _remaining(found: Sequence[Status]) -> tuple[float | None, int]:
    """Return the seconds that all trainings still take, and how many run at once.

    A training that has not begun takes what those of its data set and schedule take in the
    median; without any of them the sum is unknown.
    """
    measured: dict[tuple[str, ...], list[float]] = {}
    for status in found:
        if status.seconds:
            measured.setdefault(_kind(status), []).append(status.seconds)
    at_once = max(sum(status.state == RUNNING for status in found), 1)
    total = 0.0
    for status in found:
        if status.state in (DONE, TRAINED, EVALUATING, FAILED):
            continue
        if status.seconds_left is None and _kind(status) not in measured:
            return None, at_once
        known = status.seconds_left
        total += median(measured[_kind(status)]) if known is None else known
    return total / at_once, at_once


def _kind(status: Status) -> tuple[str, ...]:
    return Path(status.run).parts[1:5]


def _lines(found: Sequence[Status], width: int, paint: Paint, logs: bool) -> list[str]:
    groups: dict[str, list[Status]] = {}
    for status in found:
        groups.setdefault(_heading(status), []).append(status)
    teachers = {heading: _teacher(rows) for heading, rows in groups.items()}
    folded = {heading: [*_folded(rows)] for heading, rows in groups.items()}
    cells = [_cells(same, teachers[heading]) for heading in groups for same in folded[heading]]
    widths = _widths(cells, width)
    lines = [paint(_joined(dict(zip(COLUMNS, COLUMNS, strict=True)), widths), DIM)]
    for heading, rows in folded.items():
        taught = f"  from {teachers[heading]}" if teachers[heading] else ""
        lines.append(paint(heading + taught, BOLD))
        for same in rows:
            status = same[0]
            lines += _row(status, _cells(same, teachers[heading]), widths, width, paint)
            if logs and status.state in WITH_LOG:
                lines.append(paint(" " * INDENT + status.log, DIM))
    return lines if found else []


def _heading(status: Status) -> str:
    """Return what runs of one student, or of one data set's classifiers, have in common."""
    return "/".join(Path(status.run).parts[:-2])


def _teacher(rows: Sequence[Status]) -> str:
    """Return the teacher that most runs of a group have, if any."""
    names = Counter(Path(status.run).parts[-2].partition("_from_")[2] for status in rows)
    del names[""]
    return names.most_common(1)[0][0] if names else ""


def _folded(rows: Sequence[Status]) -> Iterator[list[Status]]:
    """Yield the runs of each line; those of a training to which nothing happens yet share one."""

    def line(status: Status) -> tuple[str, ...]:
        if status.state in IDLE:
            return str(Path(status.run).parent), status.state, status.note
        return (status.run,)

    for _, same in groupby(rows, line):
        yield list(same)


def _cells(same: Sequence[Status], teacher: str) -> dict[str, str]:
    status = same[0]
    *_, training, last = Path(status.run).parts
    seed, _, digest = last.partition("-")
    if len(same) > 1:
        digest, final = f"{len(same)} runs", Path(same[-1].run).name.partition("-")[0]
        seed += "" if final == seed else f"\u2013{final.removeprefix('seed')}"
    going = status.state in (RUNNING, REQUEUED, PENDING, INTERRUPTED)
    left = status.seconds_left if going else None
    return {
        "id": digest,
        "training": training.removesuffix(f"_from_{teacher}"),
        "seed": seed.removeprefix("seed"),
        "state": status.state,
        "job": status.job or "",
        "node": status.node or "",
        "epoch": _of(status.epoch, status.epochs) if going else "",
        "step": _of(status.step, status.steps) if going else "",
        "img/s": f"{status.images_per_second:.1f}" if going and status.images_per_second else "",
        "left": duration(left).replace(" ", "") if left else "",
        "AP": _figure(status),
    }


def _figure(status: Status) -> str:
    if status.figure is None:
        return ABSENT
    return f"{100 * status.figure:.1f}" + ("%" if status.metric == "top-1" else "")


def _of(value: int | None, total: int | None) -> str:
    return "" if value is None else f"{value}/{total}" if total else str(value)


def _widths(cells: Sequence[dict[str, str]], width: int) -> dict[str, int]:
    """Return the width of each column that is shown: filled somewhere, and room for it."""
    widths = {}
    for name in COLUMNS:
        longest = max((len(row[name]) for row in cells), default=0)
        if longest and not (name == "seed" and len({row["seed"] for row in cells}) == 1):
            widths[name] = max(longest, len(name))
    if "training" in widths:
        widths["training"] = min(widths["training"], max(20, width // 4))
    for name in LEAST:
        if sum(widths.values()) + 2 * len(widths) > width:
            widths.pop(name, None)
    return widths


def _joined(row: dict[str, str], widths: dict[str, int]) -> str:
    parts = []
    for name, width in widths.items():
        text = row[name] if len(row[name]) <= width else row[name][: width - 1] + "…"
        parts.append(text.rjust(width) if name in NUMBERS else text.ljust(width))
    return "  " + "  ".join(parts).rstrip()


def _row(
    status: Status, row: dict[str, str], widths: dict[str, int], width: int, paint: Paint
) -> list[str]:
    """Return a run's line, with its note behind it or below."""
    line, under = _joined(row, widths), []
    unmeasured = _joined({**row, "AP": row["AP"].strip(ABSENT)}, widths)
    indent = " " * INDENT
    if status.note and len(unmeasured) + 2 + len(status.note) <= width:
        line = f"{unmeasured}{' ' * (1 + (status.state != WAITING))}{status.note}"
    elif status.note:
        under = textwrap.wrap(status.note, width, initial_indent=indent, subsequent_indent=indent)
    start = line.index(status.state, len(_joined({**row, **dict.fromkeys(AFTER, "")}, widths)))
    end = start + len(status.state)
    state = paint(status.state, COLOURS.get(status.state, DIM))
    return [line[:start] + state + line[end:], *(paint(text, DIM) for text in under)]


def _paint(text: str, colour: int) -> str:
    return f"\033[{colour}m{text}\033[0m"


def _plain(text: str, colour: int) -> str:
    return text
