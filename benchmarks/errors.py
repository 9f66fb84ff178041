"""Time the analyses of errors against pycocotools and tidecv on a generated COCO-sized result.

python benchmarks/errors.py        5,000 images, 80 classes, 36,000 boxes, 320,000 detections

Each part starts from the same Python lists in a new process, one after the other, so that memory is
measured separately. Results that must be equal are compared before a time is printed. Times are of
the processor, which a busy machine changes little. The table is written to results/benchmarks.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.evaluation import generate, pycocotools
from kd.common.files import write_text
from kd.common.results import RESULTS
from kd.evaluation.detections import Detection

DETECTIONS_PER_IMAGE = 64
CLASSES_A_GROUP = 8
IOU = 0.5

Truth = dict[str, Any]


class Part(NamedTuple):
    """Function to time, the part that it is compared with, and its target."""

    title: str
    work: Callable[[Truth, list[Detection]], list[float]]
    """Function that returns the numbers that its reference has too."""
    reference: str | None = None
    most: float | None = None
    """Largest multiple of the reference's time, or seconds without a reference."""


def evaluation(truth: Truth, detections: list[Detection]) -> list[float]:
    """Return AP50 and AP75 of one evaluation by pycocotools."""
    return pycocotools(truth, detections)[1:3]


def breakdown(truth: Truth, detections: list[Detection]) -> list[float]:
    """Compute seven curves of every category and range of areas; return AP50 and AP75."""
    from analysis.figures.coco_errors.compute import C50, C75, breakdown, similar, with_mean
    from kd.evaluation.matching import AREAS, pair

    curves = breakdown(pair(truth, detections), similar(truth["categories"]), list(AREAS))
    return with_mean(curves)[[C50, C75], 0, 0].mean(axis=-1).tolist()


def precision(truth: Truth, detections: list[Detection]) -> list[float]:
    """Compute the curves of every category at COCO's ten IoUs; return AP50 and AP75."""
    import numpy as np

    from analysis.matching.pr_curves import curves
    from kd.evaluation.matching import match, pair

    pairing = pair(truth, detections)
    means = [
        np.nanmean(curves(pairing, match(pairing, percent / 100))) for percent in range(50, 100, 5)
    ]
    return [float(means[0]), float(means[5])]


def tide(truth: Truth, detections: list[Detection]) -> list[float]:
    """Return AP and the costs of TIDE's errors."""
    from analysis.figures.tide.errors import measure_errors, overlaps_of
    from analysis.statistics.bootstrap import resample
    from kd.evaluation.matching import pair

    weights = resample(len(truth["images"]), 0, seed=0)
    errors = measure_errors(overlaps_of(pair(truth, detections)), IOU, weights)
    return [float(errors.ap[0]), *errors.gains[:, 0].tolist()]


def tidecv(truth: Truth, detections: list[Detection]) -> list[float]:
    """Return AP and the costs of errors by tidecv."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIDE_PATH"] = folder
        from tests.analysis.figures.tidecv_reference import reference

        theirs = reference(truth, detections, IOU)
    return [theirs.ap, *theirs.gains]


PARTS = {
    "evaluation": Part("pycocotools, one evaluation", evaluation),
    "breakdown": Part("error breakdown of all categories", breakdown, "evaluation", 1.0),
    "precision": Part("curves of all categories, ten IoUs", precision, None, 3.0),
    "tidecv": Part(f"tidecv at IoU {IOU:g}", tidecv),
    "tide": Part(f"TIDE at IoU {IOU:g}", tide, "tidecv", 0.2),
}
TOLERANCE = 1e-4


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--part", choices=PARTS, help="measure this part alone, in this process")
    options = parser.parse_args()
    if options.part:
        print(json.dumps(_measure(PARTS[options.part], options.images)))
        return
    measured = {}
    for name in PARTS:
        measured[name] = _run(name, options.images)
        print(f"{name}: {measured[name]['seconds']:.2f} s", flush=True)
    _compare(measured)
    text = _table(measured)
    write_text(RESULTS / "benchmarks" / "errors.md", text)
    print(text)


def _measure(part: Part, images: int) -> dict[str, Any]:
    part.work(*_generated(2))  # excludes imports from the time
    truth, detections = _generated(images)
    sizes = [images, len(truth["annotations"]), len(detections)]
    started = time.process_time()
    figures = part.work(truth, detections)
    seconds = time.process_time() - started
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mb": kilobytes / 1024, "figures": figures, "sizes": sizes}


def _generated(images: int) -> tuple[Truth, list[Detection]]:
    truth, detections = generate(images, count=DETECTIONS_PER_IMAGE)
    for number, category in enumerate(truth["categories"]):
        category["supercategory"] = f"group {number // CLASSES_A_GROUP}"
    return truth, detections


def _run(name: str, images: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--images", str(images), "--part", name]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=one_thread, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _compare(measured: dict[str, dict[str, Any]]) -> None:
    """Exit if numbers differ that should be equal; those of curves equal pycocotools'."""
    for name, other in (
        ("breakdown", "evaluation"),
        ("precision", "evaluation"),
        ("tide", "tidecv"),
    ):
        pairs = zip(measured[name]["figures"], measured[other]["figures"], strict=True)
        gap = max(abs(mine - theirs) for mine, theirs in pairs)
        if gap > TOLERANCE:
            raise SystemExit(f"{name} and {other} differ by {gap:.3g}")


def _table(measured: dict[str, dict[str, Any]]) -> str:
    images, boxes, detection_count = measured["evaluation"]["sizes"]
    lines = [
        f"{images} images, {boxes} boxes, {detection_count} detections; processor time, one "
        "thread, each part in a new process, whose memory includes Python and the lists.",
        "",
        "| part | seconds | times the reference | at most | peak memory, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, part in PARTS.items():
        seconds, most, ratio = measured[name]["seconds"], "", ""
        if part.reference:
            ratio = f"{seconds / measured[part.reference]['seconds']:.3f}"
            most = f"{part.most:g}"
        elif part.most:
            most = f"{part.most:g} s"
        megabytes = f"{measured[name]['mb']:.0f}"
        lines.append(f"| {part.title} | {seconds:.2f} | {ratio} | {most} | {megabytes} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
