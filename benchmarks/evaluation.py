"""Time kd.evaluation.evaluate against pycocotools on a generated COCO-sized result.

python benchmarks/evaluation.py --images 5000     the size of COCO val2017

Both start from the same Python lists, run in this process one after the other, and must agree on
all twelve figures before a time is printed. evaluate() also checks its input and computes the VOC
figures; that is in its time. Its engine uses every core.
"""

import argparse
import contextlib
import copy
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kd.columns import Detection
from kd.evaluation import COCO_FIGURES, Metrics, evaluate

CLASSES = [f"class {number}" for number in range(80)]
BOXES_PER_IMAGE = 7.3
"""As in COCO val2017: 36,781 boxes in 5,000 images."""
DETECTIONS_PER_IMAGE = 100


def generate(
    images: int, seed: int = 0, count: int = DETECTIONS_PER_IMAGE
) -> tuple[dict[str, Any], list[Detection]]:
    """Return a ground truth and ``count`` detections an image, half of them near a box."""
    generator = np.random.default_rng(seed)
    # Few classes an image and few frequent classes, as in photographs.
    frequency = 1 / np.arange(1, len(CLASSES) + 1)
    frequency /= frequency.sum()
    annotations: list[dict[str, Any]] = []
    detections: list[Detection] = []
    for image in range(1, images + 1):
        boxes = _boxes(generator, int(generator.poisson(BOXES_PER_IMAGE)))
        labels = generator.choice(len(CLASSES), len(boxes), p=frequency) + 1
        for box, label in zip(boxes, labels, strict=True):
            annotations.append(_annotation(len(annotations) + 1, image, int(label), box, generator))
        detections += _detections(generator, image, count, boxes, labels, frequency)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, 1)]
    listed = [{"id": image} for image in range(1, images + 1)]
    return {"images": listed, "categories": categories, "annotations": annotations}, detections


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
    stray_labels = generator.choice(len(CLASSES), len(stray), p=frequency) + 1
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
    """Return the twelve figures of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        target = COCO()
        target.dataset = ground_truth
        target.createIndex()
        engine = COCOeval(target, target.loadRes(detections), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return list(engine.stats)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of ``function`` and its time in seconds."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def largest_gap(ours: Metrics, theirs: Sequence[float]) -> float:
    """Return the largest difference among the twelve figures."""
    values = (getattr(ours, name) for name in COCO_FIGURES)
    return max(abs(value - other) for value, other in zip(values, theirs, strict=True))


def main() -> None:
    """Generate, run both, compare, print."""
    parser = argparse.ArgumentParser(description="Time evaluate() against pycocotools.")
    parser.add_argument("--images", type=int, default=500)
    images = parser.parse_args().images
    ground_truth, detections = generate(images)
    copies = copy.deepcopy((ground_truth, detections))  # pycocotools writes into its input
    ours, seconds = timed(lambda: evaluate(ground_truth, detections, CLASSES))
    theirs, reference = timed(lambda: pycocotools(*copies))
    gap = largest_gap(ours, theirs)
    if gap > 1e-12:
        raise SystemExit(f"the figures differ by {gap:.3g}")
    print(f"{images} images, {ours.boxes} boxes, {ours.detections} detections, AP {ours.AP:.4f}")
    ratio = reference / seconds
    print(f"pycocotools {reference:.2f} s, evaluate {seconds:.2f} s: {ratio:.1f} times faster")


if __name__ == "__main__":
    main()
