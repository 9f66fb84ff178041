"""Time dry runs of all studies at paper scale with three seeds, and what reads their results.

python benchmarks/workflow.py            four minutes on two idle cores

Dry runs are as a user types them, in a copy of the project without data or results: of all studies
in one workflow, of each study alone, and of one with 1 to 16 seeds, whose curve is left where
``benchmarks.growth`` draws it. None may import torch. Then the largest study's `kd
plan`, `status`, `table` and `report`, with every run finished: made-up metrics, records, and 1,000
resamples. Times are from start to end of a process; on a busy machine look at the processor's.
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
from kd.evaluation.metrics import COCO_FIGURES

ROOT = Path(__file__).resolve().parents[1]
SCALE, SEEDS = "paper", 3
EVERY = "all"
GROWING, GROWTH = "rm_pfi", (1, 2, 4, 8, 16)
"""A study, and with how many seeds its dry run is timed."""
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
"""Has a process say in its last lines whether torch was imported, and its peak memory in KB."""


class Told(NamedTuple):
    """What a process took and said."""

    seconds: float
    processor: float
    """Seconds of it that were computed."""
    megabytes: float
    text: str

    @property
    def jobs(self) -> int:
        """The jobs of a dry run."""
        return int(re.findall(r"^total +(\d+)$", self.text, re.MULTILINE)[-1])


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    options = parser.parse_args()
    studies = Library(ROOT / "configs").names("studies")
    with project():
        cases = {name: dry_run(name, SEEDS) for name in (EVERY, *studies)}
        told = in_turn(cases, options.rounds)
        grown = in_turn({str(n): dry_run(GROWING, n) for n in GROWTH}, options.rounds)
        largest = max(studies, key=lambda name: told[name][0].jobs)
        finish(list(plan(largest, SCALE, Library(), SEEDS).runs.values()))
        read = in_turn(readers(largest), options.rounds)
    lines = [*of_dry_runs(told, studies), of_growth(grown), *of_readers(read, largest)]
    about = (
        f"Dry runs of {len(studies)} studies at scale {SCALE} with {SEEDS} seeds, torch not "
        f"imported; {len(os.sched_getaffinity(0))} cores."
    )
    print(publish(options.name or "workflow", about, lines, options.before))


@contextmanager
def project() -> Iterator[None]:
    """Work in a copy of what a dry run reads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("configs", "workflow"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "Snakefile", folder)
        (folder / "profiles").symlink_to("workflow/profiles")
        with chdir(folder):
            yield


def dry_run(studies: str, seeds: int) -> list[str]:
    """Return the command of a dry run that prints how many jobs there are."""
    config = [f"study={studies}", f"scale={SCALE}", f"seeds={seeds}"]
    return ["snakemake", "--dry-run", "--quiet", "rules", "--config", *config]


def readers(study: str) -> dict[str, list[str]]:
    """Return what looks at a study."""
    asked = [study, "--scale", SCALE, "--seeds", str(SEEDS)]
    return {step: ["kd", step, *asked] for step in ("plan", "status", "table", "report")}


def in_turn(cases: dict[str, list[str]], rounds: int) -> dict[str, list[Told]]:
    """Run each command once a round."""
    return results_in_turn({name: partial(run, each) for name, each in cases.items()}, rounds)


def run(command: Sequence[str]) -> Told:
    """Run a command in a process of its own; exit where it fails or a dry run imports torch."""
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
    return Told(seconds, processor, int(kilobytes) / 1024, result.stdout + result.stderr)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def finish(runs: Sequence[Run]) -> None:
    """Write what a table and a report read of finished runs."""
    generator = np.random.default_rng(0)
    for each in runs:
        each.write()
        ap = float(generator.uniform(0.3, 0.45))
        counts = {"per_class": {}, "images": 5000, "boxes": 36781, "detections": 500000}
        metrics = dict.fromkeys((*COCO_FIGURES, "VOC07", "VOC12"), ap) | counts
        write_json(each.directory / "metrics.json", metrics)
        hours = {"seconds": 36000, "gpu_seconds": 36000, "images_per_second": 40.0}
        record = {"started": "2026-01-02T03:04:05+00:00", "peak_memory_mb": 9000, **hours}
        write_json(each.directory / "provenance.json", record)
        write_text(each.directory / "train.log", "".join(map(_line, range(2000))))
        values = 100 * ap + np.append(0, generator.normal(0, 0.3, RESAMPLES))
        samples = dict.fromkeys(METRICS, values.astype(np.float32))
        write_arrays(each.directory / "resampled.npz", split=each.dataset, **samples)


def _line(number: int) -> str:
    return f"step {50 * number}: loss 0.8123, loss_cls 0.4012, loss_bbox 0.4111, lr 0.02\n"


def of_dry_runs(told: dict[str, list[Told]], studies: Sequence[str]) -> list[Line]:
    lines = [_timed("all studies in one workflow, s", told[EVERY], most=10, jobs=True)]
    rounds = zip(*(told[name] for name in studies), strict=True)
    alone = [sum(each.seconds for each in found) for found in rounds]
    lines.append(Line("the studies one by one, sum, s", quartiles(alone)))
    return lines + [_timed(f"{name}, s", told[name], jobs=True) for name in studies]


def of_growth(told: dict[str, list[Told]]) -> Line:
    """Leave the curve; return how far, at most, it is from a straight line over jobs."""
    jobs = [found[0].jobs for found in told.values()]
    rounds = zip(*(_seconds(found) for found in told.values()), strict=True)
    medians = [quartiles(_seconds(found)).median for found in told.values()]
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


def of_readers(told: dict[str, list[Told]], study: str) -> list[Line]:
    return [_timed(f"kd {name} {study}, s", found, most=5) for name, found in told.items()]


def _timed(what: str, told: Sequence[Told], most: float | None = None, jobs: bool = False) -> Line:
    value: Quartiles = quartiles(_seconds(told))
    details = {
        "of the processor, s": quartiles([each.processor for each in told]).median,
        "peak memory, MB": max(each.megabytes for each in told),
    }
    if jobs:
        count = told[0].jobs
        details = {"jobs": count, "ms per job": 1000 * value.median / count, **details}
    return Line(what, value, most, details=details)


def _seconds(told: Sequence[Told]) -> list[float]:
    return [each.seconds for each in told]


if __name__ == "__main__":
    main()
