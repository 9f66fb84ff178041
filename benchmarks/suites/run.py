"""Run of a suite: parts within the time, a table after each, and the end on a signal."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence

import pynvml
import torch

from benchmarks.report import FOLDER, TINY, Line, publish, use
from benchmarks.suites import packages, parts
from benchmarks.suites.budget import (
    Interrupted,
    Outcome,
    Part,
    benchmark,
    interruptible,
    result,
    run_all,
)
from kd.common.files import read_json
from kd.common.timing import Quartiles

RESERVE = 10.0
"""Seconds of the limit for stopping the last part and writing the table."""
FAILURES = ("failed", "stopped")


class Suite:
    """Parts of a machine, and the table of their results."""

    def __init__(self, machine: str, tiny: bool, list_of_parts: Sequence[Part]) -> None:
        self.machine, self.parts = machine, list_of_parts
        self.folder = TINY if tiny else {"cpu": "", "gpu": "gpu"}[machine]
        self.outcomes: list[Outcome] = []
        self.lines: list[Line] = []
        self.text = ""

    def name(self, table: str) -> str:
        """Return the name of a table in results/benchmarks."""
        return f"{self.folder}/{table}" if self.folder else table

    def collect(self) -> None:
        """Read the results of earlier runs."""
        for part in self.parts:
            exists = result(self.name(part.name)).exists()
            outcome = Outcome(part, "done") if exists else Outcome(part, "skipped", "no result")
            self.add(outcome, is_new=exists)

    def run(self, end: float, options: Sequence[str]) -> None:
        """Run the parts until ``end``; each adds its lines to the table."""
        stamps = {part.name: self._stamp(part) for part in self.parts}
        ends = run_all(
            self.parts,
            end,
            lambda part: benchmark(part, self.name(part.name), options),
            FOLDER / self.name("logs"),
        )
        try:
            for outcome in ends:
                self.add(outcome, self._stamp(outcome.part) != stamps[outcome.part.name])
                self._print(outcome)
        except Interrupted:
            for part in self.parts[len(self.outcomes) :]:
                is_new = self._stamp(part) != stamps[part.name]
                self.add(Outcome(part, "stopped", "by a signal"), is_new)
            raise

    def add(self, outcome: Outcome, is_new: bool) -> None:
        """Add the end of a part, and its lines if it wrote any; write the table."""
        self.outcomes.append(outcome)
        if is_new:
            self.lines += main_lines(
                self.name(outcome.part.name), outcome.part.name, self.machine == "gpu"
            )
        about = f"Main values on {_hardware()}."
        if self.machine == "cpu":
            about = f"All figures with a target, on {_hardware()}."
        notes = [end.line for end in self.outcomes if end.state != "done"]
        self.text = publish(self.name(f"suite-{self.machine}"), about, self.lines, notes=notes)

    @property
    def has_failed(self) -> bool:
        """Return True if a part failed or was stopped."""
        return any(outcome.state in FAILURES for outcome in self.outcomes)

    def _stamp(self, part: Part) -> int:
        """Return the time of a part's results, 0 without any: it changes when a part writes."""
        path = result(self.name(part.name))
        return path.stat().st_mtime_ns if path.exists() else 0

    def _print(self, outcome: Outcome) -> None:
        """Print how a part ended, and its lines, which a lost machine would take along."""
        start = f"{outcome.part.name}: "
        for line in self.lines:
            if line.what.startswith(start):
                print(f"  {line.what} {line.value.median:.3g}", flush=True)
        reason = f": {outcome.reason}" if outcome.reason else ""
        print(f"{start}{outcome.state}{reason}", flush=True)


def main_lines(name: str, title: str, is_gpu: bool) -> list[Line]:
    """Return the lines of a benchmark that have a target; of a GPU all except details ("- ...")."""
    return [
        Line(
            f"{title}: {record['what']}",
            Quartiles(**record["value"]),
            record["most"],
            record["least"],
        )
        for record in read_json(result(name))["lines"]
        if record["most"] is not None
        or record["least"] is not None
        or (is_gpu and not record["what"].startswith("- "))
    ]


def run(options: argparse.Namespace, started: float) -> int:
    """Run or collect a suite and print its table; return the exit status."""
    use(options.device)
    needs_gpu = options.machine == "gpu" and options.device != "cpu" and not options.collect
    if needs_gpu and not torch.cuda.is_available():
        print("error: no GPU here; `python benchmarks/suite.py cpu` needs none", file=sys.stderr)
        return 1
    suite = Suite(
        options.machine, options.tiny, {"cpu": parts.CPU, "gpu": parts.GPU}[options.machine]
    )
    if options.collect:
        suite.collect()
        print(suite.text)
        return int(any(outcome.state != "done" for outcome in suite.outcomes))
    device_options = [
        *(["--device", options.device] if options.device else []),
        *["--tiny"] * options.tiny,
    ]
    with interruptible():
        try:
            suite.run(started + 60 * options.minutes - RESERVE, device_options)
        finally:
            print(suite.text, flush=True)
    return int(suite.has_failed)


def check(machine: str) -> list[str]:
    """Return lines on the machine and on each part that will be skipped."""
    lines = [f"all packages can be imported; torch {torch.__version__}, {_hardware()}"]
    lines += [f"another version: {line}" for line in packages.differences()]
    lines += [f"{what}: {_text(reason)}" for what, reason in abilities().items()]
    for part in {"cpu": parts.CPU, "gpu": parts.GPU}[machine]:
        for reason in filter(None, (need() for need in part.needs)):
            lines.append(f"{part.name} will be skipped: {reason}")
    return lines


def _text(reason: str) -> str:
    return reason or "yes"


def abilities() -> dict[str, str]:
    """Return what parts measure only on some machines, with the reason why this one cannot."""
    gpus = torch.cuda.device_count()
    return {
        "GPU": "" if gpus else "no: torch finds none",
        "two GPUs": "" if gpus > 1 else "no: two processes on GPUs are not tested",
        "energy (NVML)": _nvml(),
        "torch.compile": parts.compiler(),
        "C compiler": "" if shutil.which("gcc") or shutil.which("clang") else "no",
    }


def _nvml() -> str:
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:
        return f"no: {error}"
    return ""


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    return f"{len(os.sched_getaffinity(0))} cores, no GPU"
