"""Time AP, AP50 and VOC07 of 1,000 resamples of a generated COCO-sized result; compare a few.

python benchmarks/bootstrap.py        5,000 images, 80 classes, 36,000 boxes, 320,000 detections

A few of the resamples are also evaluated naively: a data set with repeated images is evaluated by
pycocotools and kd.evaluation.metrics. If they differ, no time is printed.
Times are of the processor, in one process with one thread; the table is written to
results/benchmarks.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

import numpy as np

from analysis.matching.outcomes import MatchedRun, write_arrays
from analysis.statistics.bootstrap import resample
from analysis.statistics.resampled import METRICS, RESAMPLES, SEED, metrics
from benchmarks.errors import DETECTIONS_PER_IMAGE
from benchmarks.evaluation import generate, pycocotools
from kd.common.files import write_text
from kd.common.results import RESULTS
from kd.evaluation.detections import Detection
from kd.evaluation.metrics import evaluate
from kd.evaluation.voc import Floats
from tests.support.scenes import repeated

MOST = "10"
"""Target for the seconds of resampling."""
TOLERANCE = 1e-12

Truth = dict[str, Any]


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of ``work`` and its processor time in seconds."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def resampled(folder: Path) -> dict[str, Floats]:
    """Compute and write the resamples of a run's matches, as ``kd resample`` does."""
    matched = MatchedRun.read(folder / "matches.npz", "benchmark")
    assert matched is not None
    values = metrics(matched, resample(matched.images, RESAMPLES, SEED))
    write_arrays(folder / "resampled.npz", **values)
    return values


def naive(truth: Truth, detections: list[Detection], counts: Floats) -> list[float]:
    """Return the same metrics of a data set of repeated images."""
    scene, results = repeated(truth, detections, counts)
    voc = evaluate(scene, results, [category["name"] for category in truth["categories"]]).VOC07
    assert voc is not None
    return [*pycocotools(scene, results)[:2], voc]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--compare",
        type=int,
        default=3,
        help="number of resamples that are also evaluated without shortcuts",
    )
    options = parser.parse_args()
    metrics(MatchedRun.of(*generate(2, count=2)), np.ones((2, 1)))  # excludes imports
    truth, detections = generate(options.images, count=DETECTIONS_PER_IMAGE)
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        matched, times["matching"] = timed(lambda: MatchedRun.of(truth, detections))
        matched.write(folder / "matches.npz", "benchmark")
        values, times["resampling"] = timed(lambda: resampled(folder))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    gap = _gap(truth, detections, values, options.compare)
    sizes = [options.images, len(truth["annotations"]), len(detections)]
    _, times["evaluation"] = timed(lambda: pycocotools(truth, detections))  # writes into its input
    text = _table(times, sizes, options.compare, gap, megabytes)
    write_text(RESULTS / "benchmarks" / "bootstrap.md", text)
    print(text)


def _gap(
    truth: Truth, detections: list[Detection], values: dict[str, Floats], compare: int
) -> float:
    """Return the largest difference of the first resamples; exit if it is too large."""
    weights = resample(len(truth["images"]), RESAMPLES, SEED)
    gap = 0.0
    for number in range(1, compare + 1):
        expected = naive(truth, detections, weights[:, number])
        ours = [values[figure][number] for figure in METRICS]
        gap = max(gap, *(abs(a - b) for a, b in zip(ours, expected, strict=True)))
        print(f"resample {number}: AP {expected[0]:.6f}, largest difference {gap:.1e}", flush=True)
    if gap > TOLERANCE:
        raise SystemExit(f"resampled and naive figures differ by {gap:.3g}")
    return gap


def _table(
    times: dict[str, float], sizes: list[int], compare: int, gap: float, megabytes: float
) -> str:
    images, boxes, detection_count = sizes
    titles = {
        "matching": ("matching at ten IoUs and as VOC, once for a run", ""),
        "resampling": (f"{', '.join(METRICS)} of {RESAMPLES} resamples, from file to file", MOST),
        "evaluation": ("pycocotools, one evaluation", ""),
    }
    ratio = times["evaluation"] * RESAMPLES / times["resampling"]
    lines = [
        f"{images} images, {boxes} boxes, {detection_count} detections; processor time of one "
        "thread.",
        "",
        "| part | seconds | at most |",
        "|---|---:|---:|",
    ]
    for name, (title, most) in titles.items():
        lines.append(f"| {title} | {times[name]:.2f} | {most} |")
    lines += [
        "",
        f"Resampling by {RESAMPLES} evaluations would take {ratio:.0f} times as long. On the first "
        f"{compare} resamples all figures are those of repeated images by pycocotools and by "
        f"kd.evaluation: the largest difference is {gap:.1e} (0 to 1). Peak memory of matching and "
        f"resampling, Python and lists included: {megabytes:.0f} MB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
