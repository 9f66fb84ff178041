"""Status table of runs: text as wide as the terminal, or JSON."""

import os
import re
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
from typing import Any

from tabulate import tabulate

from kd.common.documents import json_document
from kd.common.durations import duration
from kd.monitoring.queue import QueueSnapshot, queue_snapshot
from kd.monitoring.runs import StatusOptions, select_runs
from kd.monitoring.slurm_reasons import ENDED, PENDING, REQUEUED, RUNNING
from kd.monitoring.status import (
    DONE,
    EVALUATING,
    FAILED,
    INTERRUPTED,
    QUEUED,
    STATES,
    TRAINED,
    UNSTARTED,
    WAITING,
    Status,
    other_jobs,
    statuses,
)

DIM, BOLD, RED, GREEN, YELLOW, CYAN = 2, 1, 31, 32, 33, 36
COLORS = {DONE: GREEN, RUNNING: CYAN, QUEUED: YELLOW, FAILED: RED}
COLUMNS = ("id", "training", "seed", "state", "job", "node", "epoch", "step", "img/s", "left", "AP")
RIGHT_ALIGNED = frozenset(["epoch", "step", "img/s", "left", "AP"])
DROPPED_FIRST = ("node", "img/s", "epoch", "job", "left")
"""Columns that a narrow terminal leaves out, in this order."""
INDENT = 12
"""Indentation of text below a run: two spaces, eight digits, two spaces."""
CLEAR = "\033[H\033[2J"
COLOR_CODE = re.compile(r"\033\[\d+m")
ABSENT = "\u2013"
WITH_LOG = frozenset([RUNNING, INTERRUPTED, FAILED, ENDED])
IDLE = frozenset([WAITING, UNSTARTED])
QUIET = IDLE | {DONE, TRAINED}
PIPED = (120, 0)
"""Columns and lines if the output is not a terminal."""
Paint = Callable[[str, int], str]


def status_reports(
    options: StatusOptions, as_json: bool = False, interval: float | None = None
) -> Iterator[str]:
    """Yield the status table or JSON, once or every ``interval`` seconds without end."""
    while True:
        snapshot = queue_snapshot()
        runs = statuses(select_runs(options, snapshot), snapshot)
        is_terminal = sys.stdout.isatty()
        width, height = shutil.get_terminal_size(PIPED)
        redraw = bool(interval) and is_terminal
        if as_json:
            yield to_json(runs, snapshot)
        else:
            text = status_table(runs, snapshot, width, height if redraw else 0, is_terminal)
            yield CLEAR + text if redraw else text
        if not interval:
            return
        time.sleep(interval)


def to_json(runs: Sequence[Status], snapshot: QueueSnapshot) -> str:
    """Return all statuses, their counts and the remaining time as JSON."""
    content = {
        "runs": [_as_object(status) for status in runs],
        "other_jobs": [_as_object(status) for status in other_jobs(snapshot)],
        "trouble": snapshot.problem or None,
        "states": _counts(runs),
        "seconds_left": _remaining(runs)[0],
    }
    return json_document(content)


def _as_object(status: Status) -> dict[str, Any]:
    """Return a status with its state, and its metric in percent as the table prints it."""
    figure = None if status.figure is None else round(100 * status.figure, 4)
    run, *rest = (asdict(status) | {"figure": figure}).items()
    return dict([run, ("state", status.state), *rest])


def status_table(
    runs: Sequence[Status],
    snapshot: QueueSnapshot,
    width: int = 120,
    height: int = 0,
    color: bool = False,
) -> str:
    """Return one line per run, grouped by student, and a summary.

    With a ``height``, leave out log paths and, if the table is still too long, idle runs.
    """
    paint = _paint if color and "NO_COLOR" not in os.environ else _plain
    lines = _run_lines(runs, width, paint, logs=not height)
    if height and len(lines) + 6 > height:
        active = [status for status in runs if status.detail not in QUIET]
        lines = _run_lines(active, width, paint, logs=False)[: height - 7]
        lines.append(paint("… shortened to this window; `kd status` prints all runs", DIM))
    lines += _other_job_lines(other_jobs(snapshot), paint)
    below = [*textwrap.wrap(snapshot.problem, width), *textwrap.wrap(summary_line(runs), width)]
    if _remaining(runs)[0] is None:
        unknown = (
            "time left: unknown until one run of each kind has started; "
            "`kd plan STUDY --budget` prints an estimate"
        )
        below += textwrap.wrap(unknown, width)
    hint = paint("`kd logs ID` prints a run's log and follows it", DIM)
    return "\n".join([*lines, "", *below, hint])


def _other_job_lines(jobs: Sequence[Status], paint: Paint) -> list[str]:
    lines = [paint("other jobs", BOLD)] if jobs else []
    for status in jobs:
        state = paint(status.state, COLORS[status.state])
        cells = [status.run, state, f"job {status.job}" if status.job else "", status.explanation]
        lines.append("  " + "  ".join(cell for cell in cells if cell))
    return lines


def summary_line(runs: Sequence[Status]) -> str:
    """Return the number of runs in each state, and an estimate of the remaining time."""
    counts = ", ".join(f"{count} {state}" for state, count in _counts(runs).items())
    left, parallel = _remaining(runs)
    times = f"; about {duration(left)} left, {parallel} at once" if left else ""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}: {counts}{times}"


def _counts(runs: Sequence[Status]) -> dict[str, int]:
    counts = Counter(status.state for status in runs)
    return {state: counts[state] for state in STATES if counts[state]}


def _remaining(runs: Sequence[Status]) -> tuple[float | None, int]:
    """Return the seconds until all trainings end, and how many run at once.

    A training that has not started is estimated by the median duration of trainings on the same
    data with the same schedule. Without one of them the time is unknown (None).
    """
    durations: dict[tuple[str, ...], list[float]] = {}
    for status in runs:
        if status.seconds:
            durations.setdefault(_kind(status), []).append(status.seconds)
    parallel = max(sum(status.detail == RUNNING for status in runs), 1)
    total = 0.0
    for status in runs:
        if status.detail in (DONE, TRAINED, EVALUATING, FAILED):
            continue
        left = status.seconds_left
        if left is None and _kind(status) not in durations:
            return None, parallel
        total += median(durations[_kind(status)]) if left is None else left
    return total / parallel, parallel


def _kind(status: Status) -> tuple[str, ...]:
    """Return the parts of a path that trainings of similar duration share: data and schedule."""
    return Path(status.run).parts[1:5]


def _run_lines(runs: Sequence[Status], width: int, paint: Paint, logs: bool) -> list[str]:
    """Return the header and the lines of all groups of runs."""
    groups: dict[str, list[Status]] = {}
    for status in runs:
        # The directory that a student's runs share, or the classifiers of a data set.
        groups.setdefault("/".join(Path(status.run).parts[:-2]), []).append(status)
    if not groups:
        return []
    teachers = {heading: _teacher(group) for heading, group in groups.items()}
    rows = [(heading, folded) for heading, group in groups.items() for folded in _fold(group)]
    cells = [_cells(folded, teachers[heading]) for heading, folded in rows]
    header, *aligned = _aligned(cells, _columns(cells, width), width, paint)
    lines, previous = [paint(header, DIM)], None
    for (heading, folded), line in zip(rows, aligned, strict=True):
        if heading != previous:
            teacher = f"  from {teachers[heading]}" if teachers[heading] else ""
            lines.append(paint(heading + teacher, BOLD))
            previous = heading
        status = folded[0]
        lines += _with_note(line, status, width, paint)
        if logs and status.detail in WITH_LOG:
            lines.append(paint(" " * INDENT + status.log, DIM))
    return lines


def _teacher(group: Sequence[Status]) -> str:
    """Return the most frequent teacher of a group of runs, if any."""
    names = Counter(Path(status.run).parts[-2].partition("_from_")[2] for status in group)
    del names[""]
    return names.most_common(1)[0][0] if names else ""


def _fold(group: Sequence[Status]) -> Iterator[list[Status]]:
    """Yield the runs of each line; seeds of a training that all wait or idle share one line."""

    def line_key(status: Status) -> tuple[str, ...]:
        if status.detail in IDLE:
            return str(Path(status.run).parent), status.detail, status.note
        return (status.run,)

    for _, folded in groupby(group, line_key):
        yield list(folded)


def _cells(folded: Sequence[Status], teacher: str) -> dict[str, str]:
    status = folded[0]
    *_, training, name = Path(status.run).parts
    seed, _, digest = name.partition("-")
    if len(folded) > 1:
        digest = f"{len(folded)} runs"
        last_seed = Path(folded[-1].run).name.partition("-")[0]
        seed += "" if last_seed == seed else f"\u2013{last_seed.removeprefix('seed')}"
    in_progress = status.detail in (RUNNING, REQUEUED, PENDING, INTERRUPTED)
    left = status.seconds_left if in_progress else None
    rate = status.images_per_second if in_progress else None
    return {
        "id": digest,
        "training": training.removesuffix(f"_from_{teacher}"),
        "seed": seed.removeprefix("seed"),
        "state": WAITING.partition(" ")[0] if status.state == WAITING else status.state,
        "job": status.job or "",
        "node": status.node or "",
        "epoch": _fraction(status.epoch, status.epochs) if in_progress else "",
        "step": _fraction(status.step, status.steps) if in_progress else "",
        "img/s": f"{rate:.1f}" if rate else "",
        "left": duration(left).replace(" ", "") if left else "",
        "AP": _metric(status),
    }


def _metric(status: Status) -> str:
    if status.figure is None:
        return "" if status.explanation else ABSENT  # leaves room for the note
    unit = "%" if status.metric == "top-1" else f" {status.split}" if status.split else ""
    return f"{100 * status.figure:.1f}{unit}"


def _fraction(value: int | None, total: int | None) -> str:
    return "" if value is None else f"{value}/{total}" if total else str(value)


def _columns(cells: Sequence[dict[str, str]], width: int) -> list[str]:
    """Return the columns that have content and fit the width."""
    widths = {}
    for name in COLUMNS:
        longest = max(len(row[name]) for row in cells)
        same_seed = name == "seed" and len({row["seed"] for row in cells}) == 1
        if longest and not same_seed:
            widths[name] = max(longest, len(name))
    widths["training"] = min(widths["training"], _training_width(width))
    for name in DROPPED_FIRST:
        if sum(widths.values()) + 2 * len(widths) > width:
            widths.pop(name, None)
    return list(widths)


def _training_width(width: int) -> int:
    return max(20, width // 4)


def _aligned(
    cells: Sequence[dict[str, str]], columns: Sequence[str], width: int, paint: Paint
) -> list[str]:
    """Return the header and one aligned line per row."""

    def cell(name: str, text: str) -> str:
        if name == "state":
            return paint(text, COLORS.get(text, DIM))
        most = _training_width(width)
        return text[: most - 1] + "…" if name == "training" and len(text) > most else text

    # As ``headers``, the names would get two spaces of padding that narrow terminals lack.
    text = tabulate(
        [columns, *([cell(name, row[name]) for name in columns] for row in cells)],
        tablefmt="plain",
        disable_numparse=True,  # AP 25.0 must not become 25
        colalign=["right" if name in RIGHT_ALIGNED else "left" for name in columns],
    )
    return [f"  {line}".rstrip() for line in text.splitlines()]


def _with_note(line: str, status: Status, width: int, paint: Paint) -> list[str]:
    """Return a run's line with its note, behind it if there is room, else below."""
    note, space = status.explanation, "  "
    if status.state == WAITING:  # the line ends with the first word of the state
        note, space = f"{WAITING.partition(' ')[2]} {note}", " "
    if not note:
        return [line]
    if len(COLOR_CODE.sub("", line)) + 2 + len(note) <= width:
        return [line + space + note]
    indent = " " * INDENT
    below = textwrap.wrap(note, width, initial_indent=indent, subsequent_indent=indent)
    return [line, *(paint(text, DIM) for text in below)]


def _paint(text: str, color: int) -> str:
    return f"\033[{color}m{text}\033[0m"


def _plain(text: str, color: int) -> str:
    return text
