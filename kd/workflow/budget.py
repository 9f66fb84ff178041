"""What a study takes on so many GPUs: by when, and how far the figures rest on measurements."""

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tabulate import tabulate

from kd.common.durations import duration
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row
from kd.resources.throughput import Basis
from kd.workflow.cost import Costs, Item, costs
from kd.workflow.workflow import Request

SHOWN = (1, 2, 4, 8)
"""Trainings at once for which the time is told, where nobody says how many GPUs there are."""
COLUMNS = ("table", "runs", "done", "spent", "to come")
BASES: dict[Basis, str] = {
    "measured": "rates of the same runs with other seeds",
    "corrected": "multiply-adds, corrected by the finished runs of the scale",
    "modelled": "multiply-adds alone",
}


def makespan(items: Mapping[str, Item], at_once: int) -> float:
    """Return the hours until the last training ends, ``at_once`` at a time (list scheduling).

    Whenever there is room, the first training in the plan's order begins whose teachers have
    ended. One of unknown length takes no time.
    """
    waiting = [item for item in items.values() if not item.spent]
    ended = {item.name for item in items.values() if item.spent}
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        for item in [each for each in waiting if ended.issuperset(each.teachers)]:
            if len(running) < at_once:
                heapq.heappush(running, (now + (item.hours or 0.0), item.name))
                waiting.remove(item)
        now, name = heapq.heappop(running)
        ended.add(name)
    return now


def describe(plan: Plan, library: Library, gpus: int | None = None) -> str:
    """Return tables, sums, time on ``gpus`` GPUs, energy, and what the figures rest on.

    UserError where a training takes more GPUs than there are, or none at all.
    """
    found = costs(plan, library)
    _check(found, gpus)
    lines = _tables(plan, found)
    lines += ["", *_times(found, gpus), *_energy(found), *_bases(found, library), ""]
    lines.append("Trainings alone: predictions and evaluation come on top.")
    return "\n".join(lines)


def _check(found: Costs, gpus: int | None) -> None:
    if gpus is None or (found.gpus and gpus >= found.gpus):
        return
    if not found.gpus:
        raise UserError(
            f"--gpus {gpus}: trainings of scale '{found.scale}' take no GPU; leave it out, or see "
            "'gpus' in configs/default.yaml"
        )
    raise UserError(
        f"--gpus {gpus}: a training of scale '{found.scale}' takes {found.gpus}; give at least "
        f"{found.gpus}, or see 'gpus' in configs/default.yaml"
    )


def _tables(plan: Plan, found: Costs) -> list[str]:
    unit = "GPU h" if found.gpus else "h"
    tables = dict.fromkeys(row.table for row in plan.rows)
    runs = {table: _needed(row for row in plan.rows if row.table == table) for table in tables}
    lines = [_line(name, needed, found) for name, needed in runs.items()]
    cells = [*lines, _line("in all", found.items, found)]
    align = ["left"] + ["right"] * (len(COLUMNS) - 1)
    text = tabulate(cells, COLUMNS, tablefmt="plain", colalign=align, disable_numparse=True)
    shared = "; a run that several tables share counts in each, and once in all"
    return [text, f"(spent and to come in {unit}{shared if len(lines) > 1 else ''})"]


def _needed(rows: Iterable[Row]) -> list[str]:
    """Return the trainings behind rows, their teachers included."""
    runs = [run for row in rows for run in row.runs.values()]
    teachers = [each for run in runs for each in (run.teacher, run.classifier) if each]
    return list(dict.fromkeys(each.name for each in (*teachers, *runs)))


def _line(name: str, runs: Iterable[str], found: Costs) -> tuple[str, ...]:
    items = [found.items[run] for run in runs]
    done = [item.spent for item in items if item.spent]
    spent = sum(each.gpu_hours if found.gpus else each.hours for each in done)
    to_come = max(found.gpus, 1) * sum(item.hours or 0.0 for item in items)
    return name, str(len(items)), str(len(done)), f"{spent:.2f}", f"{to_come:.2f}"


def _times(found: Costs, gpus: int | None) -> list[str]:
    """Return how long it takes on the GPUs there are, or on some numbers of them."""
    if not any(not item.spent for item in found.items.values()):
        return ["Every training has ended."]
    if not found.gpus:
        cores = len(os.sched_getaffinity(0))
        return [_time(found, max(cores // found.threads, 1), f"{cores} CPU threads")]
    numbers = [gpus] if gpus else [found.gpus * at_once for at_once in SHOWN]
    return [_time(found, each // found.gpus, f"{each} GPU{'s' * (each > 1)}") for each in numbers]


def _time(found: Costs, at_once: int, on: str) -> str:
    hours = makespan(found.items, at_once)
    each = f"{found.gpus} GPU{'s' * (found.gpus > 1)}" if found.gpus else _threads(found.threads)
    return f"on {on}: about {duration(3600 * hours)} to come, {at_once} at once on {each} each"


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _energy(found: Costs) -> list[str]:
    """Return the energy of what is done and, at its rate, of what is to come."""
    done = [item.spent for item in found.items.values() if item.spent]
    measured = [(each.energy_kwh, each.gpu_hours) for each in done if each.energy_kwh is not None]
    energy, hours = (sum(values) for values in zip(*measured, strict=True)) if measured else (0, 0)
    if not hours:
        return []
    rest = energy / hours * found.gpus * found.to_come(found.items)
    known = len([each for each in done if each.gpu_hours]) - len([h for _, h in measured if h])
    left_out = f" ({known} more did not measure it)" if known else ""
    return [f"energy of GPUs: {energy:.2f} kWh spent{left_out}, about {rest:.2f} kWh to come"]


def _bases(found: Costs, library: Library) -> list[str]:
    """Return how much of what is to come rests on what."""
    left = [item for item in found.items.values() if not item.spent]
    unknown = sum(item.hours is None for item in left)
    counted = Counter(item.basis for item in left if item.hours)
    lines = [
        f"{duration(3600 * _hours(left, basis))} of training to come ({counted[basis]} runs) "
        f"rest on {text}"
        for basis, text in BASES.items()
        if counted[basis]
    ]
    if unknown:
        lines.append(f"{unknown} trainings that nothing is known of are not in these figures")
    if counted["modelled"]:
        lines.append(_no_measurement(found, library))
    return lines


def _hours(items: Sequence[Item], basis: Basis) -> float:
    return sum(item.hours or 0.0 for item in items if item.basis == basis)


def _no_measurement(found: Costs, library: Library) -> str:
    site = Request.read(library.root / "default.yaml")
    speed, key = (10**12 * site.gpu_tflops, "gpu_tflops")
    if not found.gpus:
        speed, key = (10**9 * site.cpu_gflops, "cpu_gflops")
    return (
        f"No measurement of scale '{found.scale}' says how fast these go: {speed:.0e} "
        f"multiply-adds a second is a guess, {key} in configs/default.yaml"
    )
