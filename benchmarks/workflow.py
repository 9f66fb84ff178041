"""Time dry runs of all studies at paper scale with three seeds, and commands that read results.

python benchmarks/workflow.py            four minutes on two idle cores

Dry runs are commands of a user, in a copy of the project without data or results: of all studies in
one workflow, of each study alone, and of one with 1 to 16 seeds, whose curve is written for
``benchmarks.growth``. None may import torch. Then the largest study's `kd plan`, `status`, `table`
and `report`, with every run finished: generated metrics, records, and 1,000 resamples. Times are
from start to end of a process; on a busy machine, processor times are more reliable.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.matching.outcomes import write_arrays
from analysis.statistics.resampled import METRICS, RESAMPLES
from benchmarks.growth.figure import Curve, write_curves
from benchmarks.report import FOLDER, Line, arguments, publish
from kd.common.files import write_json, write_text
from kd.common.timing import Quartiles, quartiles, results_in_turn, timed
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.evaluation.metrics import COCO_METRICS

ROOT = Path(__file__).resolve().parents[1]
SCALE, SEEDS = "paper", 3
EVERY = "all"
GROWING, GROWTH = "rm_pfi", (1, 2, 4, 8, 16)
"""Study whose dry run is timed with several numbers of seeds, and these numbers."""
ENTRANCE = {
    "snakemake": "from snakemake.cli import main; main(sys.argv[1:])",
    "kd": "from kd.cli.main import main; sys.exit(main(sys.argv[1:]))",
}
LAST = """
import atexit, sys
def last():
    print("TORCH" if "torch" in sys.modules else "no torch")
    print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
atexit.register(last)
"""
"""Code that prints in the last lines of a process if torch is imported, and peak memory in KB."""


class CommandRun(NamedTuple):
    """Time, memory and output of a process."""

    seconds: float
    processor: float
    """Processor time in seconds."""
    megabytes: float
    text: str

    @property
    def jobs(self) -> int:
        """Return the number of jobs of a dry run."""
        return int(re.findall(r"^total +(\d+)$", self.text, re.MULTILINE)[-1])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    options = parser.parse_args()
    studies = Library(ROOT / "configs").names("studies")
    with project():
        cases = {name: dry_run(name, SEEDS) for name in (EVERY, *studies)}
        runs = run_in_turn(cases, options.rounds)
        growth_runs = run_in_turn({str(n): dry_run(GROWING, n) for n in GROWTH}, options.rounds)
        largest = max(studies, key=lambda name: runs[name][0].jobs)
        finish(list(plan(largest, SCALE, Library(), StudyOptions(seeds=SEEDS)).runs.values()))
        reader_runs = run_in_turn(readers(largest), options.rounds)
    lines = [
        *dry_run_lines(runs, studies),
        growth_line(growth_runs),
        *reader_lines(reader_runs, largest),
    ]
    about = (
        f"Dry runs of {len(studies)} studies at scale {SCALE} with {SEEDS} seeds, torch not "
        f"imported; {len(os.sched_getaffinity(0))} cores."
    )
    print(publish(options.name or "workflow", about, lines, options.before))


@contextmanager
def project() -> Iterator[None]:
    """Work in a copy of the files that a dry run reads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("configs", "workflow"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "profiles").symlink_to("workflow/profiles")
        with chdir(folder):
            yield


def dry_run(studies: str, seeds: int) -> list[str]:
    """Return the command of a dry run that prints the number of jobs."""
    config = [f"study={studies}", f"scale={SCALE}", f"seeds={seeds}"]
    return ["snakemake", "--dry-run", "--quiet", "rules", "--config", *config]


def readers(study: str) -> dict[str, list[str]]:
    """Return the commands that read the results of a study."""
    arguments = [study, "--scale", SCALE, "--seeds", str(SEEDS)]
    return {step: ["kd", step, *arguments] for step in ("plan", "status", "table", "report")}


def run_in_turn(cases: dict[str, list[str]], rounds: int) -> dict[str, list[CommandRun]]:
    """Run each command once in every round."""
    return results_in_turn({name: partial(run, command) for name, command in cases.items()}, rounds)


def run(command: Sequence[str]) -> CommandRun:
    """Run a command in a new process; exit if it fails or if a dry run imports torch."""
    program, *rest = command
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done: list[subprocess.CompletedProcess[str]] = []

    def call() -> None:
        done.append(
            subprocess.run(
                [sys.executable, "-c", LAST + ENTRANCE[program], *rest],
                env={**os.environ, "PYTHONPATH": path},
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
        )

    before = _children()
    seconds = timed(call)
    processor = _children() - before
    (result,) = done
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: {result.stderr}")
    *_, torch, kilobytes = result.stdout.splitlines()
    if program == "snakemake" and torch != "no torch":
        raise SystemExit(f"{' '.join(command)}: torch was imported")
    return CommandRun(seconds, processor, int(kilobytes) / 1024, result.stdout + result.stderr)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def finish(runs: Sequence[Run]) -> None:
    """Write the files of finished runs that tables and reports read."""
    generator = np.random.default_rng(0)
    for run in runs:
        run.write()
        ap = float(generator.uniform(0.3, 0.45))
        counts = {"per_class": {}, "images": 5000, "boxes": 36781, "detections": 500000}
        metrics = dict.fromkeys((*COCO_METRICS, "VOC07", "VOC12"), ap) | counts
        write_json(run.directory / "metrics.json", metrics)
        hours = {"seconds": 36000, "gpu_seconds": 36000, "images_per_second": 40.0}
        record = {"started": "2026-01-02T03:04:05+00:00", "peak_memory_mb": 9000, **hours}
        write_json(run.directory / "provenance.json", record)
        write_text(run.directory / "train.log", "".join(map(_line, range(2000))))
        values = 100 * ap + np.append(0, generator.normal(0, 0.3, RESAMPLES))
        samples = dict.fromkeys(METRICS, values.astype(np.float32))
        write_arrays(run.directory / "resampled.npz", split=run.dataset, **samples)


def _line(number: int) -> str:
    return f"step {50 * number}: loss 0.8123, loss_cls 0.4012, loss_bbox 0.4111, lr 0.02\n"


def dry_run_lines(runs: dict[str, list[CommandRun]], studies: Sequence[str]) -> list[Line]:
    """Return the lines of dry runs: of all studies together, their sum, and of each."""
    lines = [_timed("all studies in one workflow, s", runs[EVERY], most=10, jobs=True)]
    rounds = zip(*(runs[name] for name in studies), strict=True)
    alone = [sum(command_run.seconds for command_run in round_runs) for round_runs in rounds]
    lines.append(Line("the studies one by one, sum, s", quartiles(alone)))
    return lines + [_timed(f"{name}, s", runs[name], jobs=True) for name in studies]


def growth_line(runs: dict[str, list[CommandRun]]) -> Line:
    """Write the curve; return its largest distance from a straight line over jobs."""
    jobs = [study_runs[0].jobs for study_runs in runs.values()]
    rounds = zip(*(_seconds(study_runs) for study_runs in runs.values()), strict=True)
    medians = [quartiles(_seconds(study_runs)).median for study_runs in runs.values()]
    title = f"jobs of a dry run ({GROWING}, {GROWTH[0]} to {GROWTH[-1]} seeds)"
    curve = Curve("jobs in the workflow", "s to plan", "snakemake -n", jobs, medians)
    write_curves(FOLDER / "growth-workflow.json", [curve])
    slope, start = np.polyfit(jobs, medians, 1)
    return Line(
        f"{title}: largest departure from a straight line, share of the time",
        quartiles([_departure(jobs, times) for times in rounds]),
        most=0.1,
        details={"jobs": jobs[-1], "ms per job": 1000 * slope, "s without a job": start},
    )


def _departure(jobs: Sequence[int], seconds: Sequence[float]) -> float:
    straight = np.polyval(np.polyfit(jobs, seconds, 1), jobs)
    return float(np.max(np.abs(straight - seconds) / seconds))


def reader_lines(runs: dict[str, list[CommandRun]], study: str) -> list[Line]:
    """Return the line of each command that reads results."""
    return [
        _timed(f"kd {name} {study}, s", command_runs, most=5) for name, command_runs in runs.items()
    ]


def _timed(
    title: str, runs: Sequence[CommandRun], most: float | None = None, jobs: bool = False
) -> Line:
    value: Quartiles = quartiles(_seconds(runs))
    details = {
        "of the processor, s": quartiles([command_run.processor for command_run in runs]).median,
        "peak memory, MB": max(command_run.megabytes for command_run in runs),
    }
    if jobs:
        count = runs[0].jobs
        details = {"jobs": count, "ms per job": 1000 * value.median / count, **details}
    return Line(title, value, most, details=details)


def _seconds(runs: Sequence[CommandRun]) -> list[float]:
    return [command_run.seconds for command_run in runs]


if __name__ == "__main__":
    main()
