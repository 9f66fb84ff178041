"""Small scenes of objects and detections, and their outcomes from a score on."""

from analysis.matching.confident import match_run
from kd.evaluation.matching import pair

SIDE = 64
BOX, OTHER, FAR = [4, 4, 20, 20], [36, 4, 20, 20], [30, 40, 20, 20]


def truth(*objects, images=3, classes=("cat", "dog")):
    """Return a COCO dict of objects (image, label, xywh box) in images 1 to ``images``."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
            for i in range(1, images + 1)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
        "annotations": [
            {"id": n, "image_id": image, "category_id": label + 1, "bbox": box, "iscrowd": 0}
            | {"area": box[2] * box[3]}
            for n, (image, label, box) in enumerate(objects, 1)
        ],
    }


def detection(image, label, box, score):
    return {"image_id": image, "category_id": label + 1, "bbox": box, "score": score}


def outcome_of(ground_truth, *detections, run="run", score=0.5, iou=0.5):
    results = [detection(*values) for values in detections]
    return match_run(run, pair(ground_truth, results), iou, score)


SCENE = truth((1, 0, BOX), (1, 1, OTHER), (2, 0, BOX))
