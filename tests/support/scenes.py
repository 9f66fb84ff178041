"""Small ground truths and detections in COCO's form, and the evaluation of pycocotools."""

import contextlib
import copy
import io
from collections import defaultdict

import numpy as np


def coco(boxes, images=(1,), names=("cat", "dog")):
    """Return a ground truth; a box is (image, category, xywh), optionally with a dict of keys."""
    annotations = []
    for number, (image, category, bbox, *extra) in enumerate(boxes, 1):
        item = {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox)}
        item |= {"area": float(bbox[2] * bbox[3]), "iscrowd": 0} | (extra[0] if extra else {})
        annotations.append(item)
    return {
        "images": [{"id": image, "width": 640, "height": 480} for image in images],
        "categories": [{"id": 3 * rank, "name": name} for rank, name in enumerate(names, 1)],
        "annotations": annotations,
    }


def detection(image, category, bbox, score):
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "score": score}


def reference(truth, detections, classes, thresholds=None):
    """Run pycocotools on copies, at its default IoU thresholds or others; return its evaluator."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        target, results = COCO(), COCO()
        target.dataset = copy.deepcopy(truth)
        target.createIndex()
        if detections:
            results = target.loadRes(copy.deepcopy(detections))
        else:  # loadRes reads the first detection
            results.dataset = {**truth, "annotations": []}
            results.createIndex()
        engine = COCOeval(target, results, "bbox")
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        engine.params.catIds = [ids[name] for name in classes]
        if thresholds is not None:
            engine.params.iouThrs = thresholds
        engine.evaluate()
        engine.accumulate()
        if thresholds is None:
            engine.summarize()
    return engine


def random_input(generator, tied):
    """Return a random ground truth with crowds and odd areas, detections near it, and names."""
    images = generator.permutation(1000)[: generator.integers(1, 8)].tolist()
    names = [f"class {number}" for number in range(generator.integers(1, 5))]
    categories = [3 * rank for rank in range(1, len(names) + 1)]
    boxes, detections = [], []
    for image in images:
        for _ in range(generator.integers(0, 8)):
            size = (
                generator.choice([0, 4, 16, 32, 96, 128], 2)
                if tied
                else generator.uniform(1, 200, 2)
            )
            bbox = [*generator.integers(0, 100, 2).tolist(), *size.tolist()]
            extra = {
                "iscrowd": int(generator.random() < 0.2),
                "ignore": int(generator.random() < 0.2),
            }
            if generator.random() < 0.3:
                extra["area"] = float(generator.choice([0, 1024, 9216, 1e10, 1e11]))
            category = int(generator.choice(categories))
            boxes.append((image, category, bbox, extra))
            for _ in range(generator.integers(0, 60 if generator.random() < 0.1 else 4)):
                shift = generator.integers(-4, 5, 4) if tied else generator.normal(0, 6, 4)
                score = generator.choice([0.0, 0.25, 0.5, 1.0]) if tied else generator.random()
                if generator.random() < 0.2:
                    category = int(generator.choice(categories))
                detections.append(
                    detection(image, category, np.maximum(bbox + shift, 0).tolist(), float(score))
                )
    generator.shuffle(detections)
    return coco(boxes, images, names), detections, generator.permutation(names).tolist()


def repeated(truth, detections, counts):
    """Return a scene with ``counts`` adjacent copies of each image."""
    images = sorted(image["id"] for image in truth["images"])
    copies = [
        (image, 1000 * image + number)
        for image, count in zip(images, counts, strict=True)
        for number in range(int(count))
    ]
    annotations, results = (
        [item | {"image_id": copy} for image, copy in copies for item in items[image]]
        for items in (_by_image(truth["annotations"]), _by_image(detections))
    )
    numbered = [item | {"id": number} for number, item in enumerate(annotations, 1)]
    records = [{"id": copy} for _, copy in copies]
    return truth | {"images": records, "annotations": numbered}, results


def _by_image(items):
    grouped = defaultdict(list)
    for item in items:
        grouped[item["image_id"]].append(item)
    return grouped
