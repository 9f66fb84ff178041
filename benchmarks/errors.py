"""Time the analyses of errors against pycocotools and tidecv on a generated COCO-sized result.

python benchmarks/errors.py        5,000 images, 80 classes, 36,000 boxes, 320,000 detections

Each part starts from the same Python lists in a process of its own, one after the other, so that
its memory is its own; what must be equal is compared before a time is printed. Times are of the
processor, which a busy machine changes little. The table is written to results/benchmarks.
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
    """Something to time, what it is held against, and how much of its time it may take."""

    title: str
    work: Callable[[Truth, list[Detection]], list[float]]
    """Returns the figures that its reference has too."""
    reference: str | None = None
    most: float | None = None
    """Times the reference's time, or seconds without a reference."""


def evaluation(truth: Truth, found: list[Detection]) -> list[float]:
    """AP50 and AP75 of one evaluation by pycocotools."""
    return pycocotools(truth, found)[1:3]


def breakdown(truth: Truth, found: list[Detection]) -> list[float]:
    """The seven curves of every category and range of areas; returns AP50 and AP75."""
    from analysis.figures.coco_errors.compute import C50, C75, breakdown, similar, with_mean
    from analysis.matching.matching import AREAS, pair

    curves = breakdown(pair(truth, found), similar(truth["categories"]), list(AREAS))
    return with_mean(curves)[[C50, C75], 0, 0].mean(axis=-1).tolist()


def precision(truth: Truth, found: list[Detection]) -> list[float]:
    """The precision-recall curves of every category at COCO's ten IoUs; returns AP50 and AP75."""
    import numpy as np

    from analysis.matching.matching import match, pair
    from analysis.matching.pr_curves import curves

    pairing = pair(truth, found)
    means = [
        np.nanmean(curves(pairing, match(pairing, percent / 100))) for percent in range(50, 100, 5)
    ]
    return [float(means[0]), float(means[5])]


def tide(truth: Truth, found: list[Detection]) -> list[float]:
    """AP and the errors' costs as TIDE has them."""
    from analysis.figures.tide.errors import measure_errors, overlaps_of
    from analysis.matching.matching import pair
    from analysis.statistics.bootstrap import resample

    weights = resample(len(truth["images"]), 0, seed=0)
    errors = measure_errors(overlaps_of(pair(truth, found)), IOU, weights)
    return [float(errors.ap[0]), *errors.gains[:, 0].tolist()]


def tidecv(truth: Truth, found: list[Detection]) -> list[float]:
    """The same by tidecv."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TIDE_PATH"] = folder
        from tests.analysis.figures.tidecv_reference import reference

        theirs = reference(truth, found, IOU)
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--part", choices=PARTS, help="only this part, in this process")
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
    part.work(*_generated(2))  # so that importing is in no time
    truth, found = _generated(images)
    sizes = [images, len(truth["annotations"]), len(found)]
    started = time.process_time()
    figures = part.work(truth, found)
    seconds = time.process_time() - started
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mb": kilobytes / 1024, "figures": figures, "sizes": sizes}


def _generated(images: int) -> tuple[Truth, list[Detection]]:
    truth, found = generate(images, count=DETECTIONS_PER_IMAGE)
    for number, category in enumerate(truth["categories"]):
        category["supercategory"] = f"group {number // CLASSES_A_GROUP}"
    return truth, found


def _run(name: str, images: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--images", str(images), "--part", name]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=one_thread, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _compare(measured: dict[str, dict[str, Any]]) -> None:
    """Exit where figures differ that should be equal; pycocotools' are those of the curves too."""
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
    images, boxes, found = measured["evaluation"]["sizes"]
    lines = [
        f"{images} images, {boxes} boxes, {found} detections; processor time, one thread, each "
        "part in a fresh process, whose memory includes Python and the lists.",
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
