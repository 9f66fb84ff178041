"""Time the evaluation of a generated COCO-sized result against pycocotools, in memory and on disk.

python benchmarks/evaluation.py --images 5000     the size of COCO val2017; four minutes
python benchmarks/evaluation.py --growth          against images, classes and boxes; two minutes

``evaluate`` and pycocotools start from the same Python lists, in this process, in turn, and must
agree on all twelve figures before a time is printed. ``evaluate`` also checks its input and
computes the VOC metrics; that is in its time. Its engine uses every core, pycocotools one.
``kd evaluate`` is a separate process that reads two files of a run and writes a third. The growth
is written for ``benchmarks.growth``.
"""

import contextlib
import gzip
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.growth.figure import Curve, write_curves
from benchmarks.report import FOLDER, Line, arguments, publish
from kd.cli.project import MARKER
from kd.common.files import sha256, uncollected, write_json, write_text
from kd.common.timing import in_turn, quartiles, ratio
from kd.config.compose import split_config
from kd.config.library import Library
from kd.data.entry import Dataset
from kd.data.fingerprint import fingerprints
from kd.evaluation.detections import Detection, read
from kd.evaluation.evaluate import DETECTIONS, metrics_of, truth_of
from kd.evaluation.metrics import COCO_METRICS, Metrics, evaluate
from kd.evaluation.stored import StoredDetections, read_detections
from kd.records import inputs

CLASSES = 80
BOXES_PER_IMAGE = 7.3
"""Boxes per image of COCO val2017, with 36,781 boxes in 5,000 images."""
DETECTIONS_PER_IMAGE = 100
TOLERANCE = 1e-12


def generate(
    images: int,
    seed: int = 0,
    count: int = DETECTIONS_PER_IMAGE,
    classes: int = CLASSES,
    boxes_per_image: float = BOXES_PER_IMAGE,
) -> tuple[dict[str, Any], list[Detection]]:
    """Return a ground truth and ``count`` detections an image, half of them near a box."""
    generator = np.random.default_rng(seed)
    # Few classes an image and few frequent classes, as in photographs.
    frequency = 1 / np.arange(1, classes + 1)
    frequency /= frequency.sum()
    annotations: list[dict[str, Any]] = []
    detections: list[Detection] = []
    for image in range(1, images + 1):
        boxes = _boxes(generator, int(generator.poisson(boxes_per_image)))
        labels = generator.choice(classes, len(boxes), p=frequency) + 1
        for box, label in zip(boxes, labels, strict=True):
            annotations.append(_annotation(len(annotations) + 1, image, int(label), box, generator))
        detections += _detections(generator, image, count, boxes, labels, frequency)
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, classes + 1)]
    image_records = [_image(number) for number in range(1, images + 1)]
    return {
        "images": image_records,
        "categories": categories,
        "annotations": annotations,
    }, detections


def _image(number: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:012}.jpg", "width": 640, "height": 640}


def _boxes(generator: np.random.Generator, count: int) -> np.ndarray:
    """Return (count, 4) xywh in pixels, with as many small boxes as large ones."""
    size = np.exp(generator.uniform(np.log(8), np.log(300), (count, 2)))
    return np.hstack([generator.uniform(0, 340, (count, 2)), size])


def _annotation(
    number: int, image: int, label: int, box: np.ndarray, generator: np.random.Generator
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": box.tolist(),
        "area": float(box[2] * box[3] * 0.6),
        "iscrowd": int(generator.random() < 0.012),
    }


def _detections(
    generator: np.random.Generator,
    image: int,
    count: int,
    boxes: np.ndarray,
    labels: np.ndarray,
    frequency: np.ndarray,
) -> list[Detection]:
    near = count // 2 if len(boxes) else 0
    source = generator.integers(0, max(len(boxes), 1), near)
    copies = boxes[source] * generator.normal(1, 0.06, (near, 4))
    stray = _boxes(generator, count - near)
    scores = [*generator.uniform(0.2, 1, near), *generator.uniform(0, 0.5, len(stray))]
    stray_labels = generator.choice(len(frequency), len(stray), p=frequency) + 1
    return [
        {"image_id": image, "category_id": int(label), "bbox": box.tolist(), "score": float(score)}
        for box, label, score in zip(
            np.vstack([copies, stray]),
            np.concatenate([labels[source], stray_labels]),
            scores,
            strict=True,
        )
    ]


def pycocotools(ground_truth: dict[str, Any], detections: Sequence[Detection]) -> list[float]:
    """Return the twelve metrics of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset = ground_truth
        target.createIndex()
        engine = COCOeval(target, target.loadRes(detections), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return list(engine.stats)


def names(truth: dict[str, Any]) -> list[str]:
    """Return the classes of a ground truth."""
    return [category["name"] for category in truth["categories"]]


def largest_gap(ours: Metrics, theirs: Sequence[float]) -> float:
    """Return the largest difference among the twelve metrics."""
    values = (getattr(ours, name) for name in COCO_METRICS)
    return max(abs(value - other) for value, other in zip(values, theirs, strict=True))


@contextmanager
def written(truth: dict[str, Any], detections: list[Detection]) -> Iterator[Path]:
    """Yield a temporary folder, a project and a run of it at once, with these detections."""
    split = {"annotations": "truth.json", "images": "."}
    entry: dict[str, Any] = {
        "format": "coco",
        "root": ".",
        "train": split,
        "test": split,
        "classes": names(truth),
        "image_size": [640, 640],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / "truth.json", truth, None)
        write_text(folder / MARKER, "")
        write_json(folder / "configs" / "datasets" / "generated.yaml", entry)  # JSON is YAML
        write_json(folder / "run.json", {"dataset": "generated"})
        dataset = Dataset.model_validate(entry)
        test_split = split_config(dataset, "test", entry["classes"], [])
        loader = {"test_dataloader": {"dataset": test_split}}
        write_json(folder / "config.json", {"model": {"type": "RetinaNet"}, **loader})
        predictions = folder / DETECTIONS
        StoredDetections.parse([_predicted(one) for one in detections]).write(predictions)
        with contextlib.chdir(folder):
            data = fingerprints("generated", dataset)["test"]
        depends = {"version": inputs.VERSIONS["prediction"], "data": data, "weights": None}
        depends["detections"] = sha256(predictions)
        inputs.record(folder, "prediction", depends)
        yield folder


def run_step(folder: Path) -> None:
    """Run ``kd evaluate`` in a folder of ``written``."""
    subprocess.run([sys.executable, "-m", "kd", "evaluate", "."], cwd=folder, check=True)


MODULES = (
    *("kd.cli.main", "kd.cli.runs", "kd.config.library", "kd.evaluation.evaluate"),
    "kd.monitoring.run_names",
)
"""Modules that ``kd evaluate`` imports, with all that they import."""


def parts_of_step(folder: Path) -> dict[str, Callable[[], object]]:
    """Return what ``kd evaluate`` computes in a folder of ``written``, part by part."""
    with contextlib.chdir(folder):
        truth = truth_of(Path(), Library()).coco
    columns = read_detections(folder / DETECTIONS, truth)

    def read_annotations() -> None:
        with contextlib.chdir(folder), uncollected():
            truth_of(Path(), Library())

    return {
        "start": lambda: subprocess.run(
            [sys.executable, "-c", f"import {', '.join(MODULES)}"], check=True
        ),
        "annotations": read_annotations,
        "unpacking": lambda: gzip.decompress((folder / DETECTIONS).read_bytes()),
        "detections": lambda: read_detections(folder / DETECTIONS, truth),
        "metrics": lambda: metrics_of(replace(columns), truth),  # a copy, which is not ranked yet
    }


def _predicted(detection: Detection) -> dict[str, Any]:
    """Return a detection as ``kd predict`` writes it."""
    return {
        "image": detection["image_id"],
        "label": detection["category_id"] - 1,
        "bbox": [round(side, 3) for side in detection["bbox"]],
        "score": detection["score"],
    }


PARTS = {
    "start": "of it starting Python and importing, s",
    "annotations": "reading and checking annotations, s",
    "detections": "reading and checking detections, s",
    "unpacking": "of it unpacking, beside the annotations, s",
    "metrics": "metrics of columns, s",
}
"""Parts of ``kd evaluate`` with their titles."""


def compare(images: int, rounds: int, name: str, before: Path | None) -> str:
    """Time all three, and reading the lists; return the table."""
    truth, detections = generate(images)
    classes = names(truth)
    ours = evaluate(truth, detections, classes)
    with written(truth, detections) as folder:
        gap = largest_gap(ours, pycocotools(truth, detections))
        if gap > TOLERANCE:
            raise SystemExit(f"the figures differ by {gap:.3g}")
        cases: dict[str, Callable[[], object]] = {
            "pycocotools": lambda: pycocotools(truth, detections),
            "evaluate": lambda: evaluate(truth, detections, classes),
            "read": lambda: read(truth, detections, classes),
            "step": lambda: run_step(folder),
            **parts_of_step(folder),
        }
        times = in_turn(cases, rounds)
    about = (
        f"{images} images, {ours.boxes} boxes, {ours.detections} detections, "
        f"{len(os.sched_getaffinity(0))} cores; the twelve metrics differ by {gap:.1e} at most."
    )
    lines = [
        Line(
            "pycocotools / evaluate(), both from lists",
            ratio(times["pycocotools"], times["evaluate"]),
            least=50,
        ),
        Line(
            "pycocotools from lists / metrics from columns",
            ratio(times["pycocotools"], times["metrics"]),
            least=70,
        ),
        Line(
            "pycocotools from lists / kd evaluate from file to file",
            ratio(times["pycocotools"], times["step"]),
            least=35,
        ),
        Line("pycocotools, s", quartiles(times["pycocotools"])),
        Line("evaluate(), s", quartiles(times["evaluate"])),
        Line("of it lists to checked columns, s", quartiles(times["read"])),
        Line("kd evaluate, s", quartiles(times["step"])),
        *(Line(title, quartiles(times[part])) for part, title in PARTS.items()),
    ]
    return publish(name, about, lines, before)


SWEEPS: dict[str, tuple[str, list[int]]] = {
    "images": ("images", [500, 1000, 2000, 4000]),
    "classes": ("classes", [5, 20, 80, 320, 1280]),
    "boxes_per_image": ("boxes per image", [2, 8, 32, 128]),
}
OTHERS = 1000
"""Number of images while another size is swept."""


def grow(rounds: int, name: str, before: Path | None) -> str:
    """Time ``evaluate`` over each size; write the curves, return the table."""
    curves, lines = [], []
    for key, (title, sizes) in SWEEPS.items():
        seconds = []
        for size in sizes:
            truth, detections = generate(**{"images": OTHERS, key: size})
            values = in_turn({"": lambda: evaluate(truth, detections, names(truth))}, rounds)[""]  # noqa: B023
            lines.append(
                Line(f"{title}: {size}, ms", quartiles([1000 * value for value in values]))
            )
            seconds.append(quartiles(values).median)
        curves.append(Curve(title, "s to evaluate", "evaluate", sizes, seconds))
    write_curves(FOLDER / "growth-evaluation.json", curves)
    exponents = [
        f"With {curve.sweep} time grows to the power of {curve.exponent:.2f}." for curve in curves
    ]
    about = (
        f"evaluate() over images, classes and boxes; {OTHERS} images, {CLASSES} classes and "
        f"{BOXES_PER_IMAGE} boxes an image where another is swept, {DETECTIONS_PER_IMAGE} "
        f"detections an image."
    )
    return publish(name, about, lines, before, notes=exponents)


def main() -> None:
    """Generate, run, compare, print."""
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--growth", action="store_true", help="measure the time for several sizes instead"
    )
    options = parser.parse_args()
    if options.growth:
        print(grow(options.rounds, options.name or "evaluation-growth", options.before))
    else:
        name = options.name or "evaluation"
        print(compare(options.images, options.rounds, name, options.before))


if __name__ == "__main__":
    main()
