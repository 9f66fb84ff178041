"""Run the benchmarks that fit a machine and an amount of time, and print one table of them.

python benchmarks/suite.py cpu                     about half an hour on two idle cores
python benchmarks/suite.py gpu --minutes 10        benchmarks that need a GPU

Each benchmark is a separate command, which is printed. Benchmarks that fail, or do not fit the
time, are named at the end. Each writes its table and JSON to results/benchmarks. The suite writes
the values that have a target to ``suite-cpu`` or ``suite-gpu``.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.report import FOLDER, Line, publish
from kd.common.timing import Quartiles

ROOT = Path(__file__).resolve().parents[1]


class Command(NamedTuple):
    """One benchmark, what it writes, and how many seconds it takes at most."""

    name: str
    arguments: str
    seconds: int


CPU = [
    Command("step_time-retinanet", "step_time.py", 600),
    Command("shortcuts", "shortcuts.py", 240),
    Command("loop", "loop.py", 300),
    Command("loader", "loader.py", 300),
    Command("start", "start.py", 300),
    Command("evaluation", "evaluation.py --images 5000", 300),
    Command("workflow", "workflow.py", 300),
    Command("teacher_cache", "teacher_cache.py", 300),
]
GPU = [
    Command("loop", "loop.py", 60),
    Command("loop-bfloat16", "loop.py --precision bfloat16 --name loop-bfloat16", 60),
    Command("loader", "loader.py", 60),
    Command("compile", "compile.py", 120),
    Command("step_time-retinanet", "step_time.py --size 1344x800 --batch 16", 240),
]
"""Shortest first, so that a lack of time takes one figure and not all."""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machine", choices=("cpu", "gpu"))
    parser.add_argument(
        "--minutes", type=float, default=45, help="limit of all benchmarks together, in minutes"
    )
    parser.add_argument(
        "--collect",
        action="store_true",
        help="print the table of earlier results without a new run",
    )
    options = parser.parse_args()
    if options.machine == "gpu" and not torch.cuda.is_available():
        raise SystemExit("error: no GPU here; `python benchmarks/suite.py cpu` needs none")
    end = time.monotonic() + 60 * options.minutes
    lines, left_out = [], []
    for command in CPU if options.machine == "cpu" else GPU:
        problem = _absent(command) if options.collect else _run(command, end - time.monotonic())
        if problem:
            left_out.append(f"`{command.arguments}`: {problem}.")
        else:
            lines += _targets(command.name)
    about = f"All figures with a target, on {_hardware()}."
    print(publish(f"suite-{options.machine}", about, lines, notes=left_out))
    raise SystemExit(1 if left_out else 0)


def _run(command: Command, seconds: float) -> str:
    """Run one benchmark; return the reason if it has no result, otherwise an empty text."""
    if seconds < command.seconds:
        return (
            f"not run: it may take {command.seconds} s, and {max(seconds, 0):.0f} s are left "
            "(--minutes)"
        )
    program, *arguments = shlex.split(command.arguments)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    print(f"--- python benchmarks/{command.arguments}", flush=True)
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / program), *arguments],
            env={**os.environ, "PYTHONPATH": path},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "stopped: the time of --minutes is over"
    return f"ended with status {done.returncode}" if done.returncode else ""


def _absent(command: Command) -> str:
    return "" if (FOLDER / f"{command.name}.json").exists() else "has not been run here"


def _targets(name: str) -> list[Line]:
    """Return the figures of a benchmark that have a target."""
    return [
        Line(
            f"{name}: {record['what']}",
            Quartiles(**record["value"]),
            record["most"],
            record["least"],
        )
        for record in _read(name)["lines"]
        if record["most"] is not None or record["least"] is not None
    ]


def _read(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{len(os.sched_getaffinity(0))} cores, no GPU"


if __name__ == "__main__":
    main()
