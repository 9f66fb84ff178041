"""Ranked detections of a run, each a true positive, a false positive or ignored: the input of AP.

A run is matched once. ``matches.npz`` in its directory caches the outcomes with digests of their
inputs, and is replaced when the detections or the split have changed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from kd.common.errors import UserError
from kd.common.files import read_json, replacing
from kd.common.results import require_result, results_folder
from kd.config.library import Library
from kd.data.entry import SplitName
from kd.evaluation.detections import Detections, Objects, Results, by_class, read
from kd.evaluation.evaluate import DETECTIONS, truth_of
from kd.evaluation.matching import Pairing, counted_objects, match, pair_columns
from kd.evaluation.stored import read_detections
from kd.evaluation.voc import Flags, Floats, Integers, judge
from kd.records import inputs

IOUS: Floats = np.linspace(0.5, 0.95, 10)
"""Thresholds of COCO's AP, equal to those of pycocotools to the bit."""
FILE = "matches.npz"
VERSION = "1"
"""Version of the file format; files of another version are replaced."""


@dataclass(frozen=True)
class Outcomes:
    """Detections (D,) by label, falling score, image, order in the list; objects (G,) that count.

    ``image`` and ``label`` are positions among sorted image ids and classes. Each row of
    ``correct`` and ``ignored`` (Q, D) is for one IoU.
    """

    image: Integers
    label: Integers
    score: Floats
    correct: Flags
    ignored: Flags
    object_image: Integers
    object_label: Integers


@dataclass(frozen=True)
class MatchedRun:
    """Outcomes of a run on its test split, by COCO's matching (ten IoUs) and by VOC's (one)."""

    coco: Outcomes
    voc: Outcomes
    images: int
    classes: int

    @classmethod
    def of(cls, ground_truth: Mapping[str, Any], detections: Results) -> Self:
        """Match detections to a COCO dict; UserError as in ``kd.evaluation.detections.read``."""
        classes = [category["name"] for category in ground_truth["categories"]]
        images, objects, columns = read(ground_truth, detections, classes)
        coco = _coco(pair_columns(images, classes, objects, columns))
        return cls(coco, _voc(objects, columns, len(classes)), len(images), len(classes))

    @classmethod
    def read(cls, path: Path, key: str) -> Self | None:
        """Return the outcomes of a file; None if it is absent or was written with another key.

        UserError if it is damaged.
        """
        if not path.exists():
            return None
        arrays = read_arrays(path)
        if str(arrays["key"]) != key:
            return None
        names = [field.name for field in fields(Outcomes)]
        coco, voc = (
            Outcomes(**{name: arrays[f"{kind}_{name}"] for name in names})
            for kind in ("coco", "voc")
        )
        return cls(coco, voc, int(arrays["images"]), int(arrays["classes"]))

    def write(self, path: Path, key: str) -> None:
        """Write the file that ``read`` reads."""
        arrays = asdict(self)
        for kind in ("coco", "voc"):
            columns = arrays.pop(kind).items()
            arrays |= {f"{kind}_{name}": column for name, column in columns}
        write_arrays(path, key=key, **arrays)


def _coco(pairing: Pairing) -> Outcomes:
    detections, objects = pairing.detections, pairing.objects
    counted_flags = counted_objects(objects)
    by_iou = [match(pairing, iou) for iou in IOUS.tolist()]
    return Outcomes(
        detections.image,
        detections.label,
        detections.score,
        np.stack([matches.right for matches in by_iou]),
        np.stack([matches.ignored for matches in by_iou]),
        objects.image[counted_flags],
        objects.label[counted_flags],
    )


def _voc(objects: Objects, columns: Detections, classes: int) -> Outcomes:
    order, hit, miss = [], [], []
    for truth, boxes, place in by_class(objects, columns, classes):
        judged = judge(truth, boxes)
        order.append(place)
        hit.append(judged.hit)
        miss.append(judged.miss)
    ranked, hits, counted_flags = np.concatenate(order), np.concatenate(hit), ~objects.voc_ignored
    return Outcomes(
        columns.image[ranked],
        columns.label[ranked],
        columns.score[ranked],
        hits[None],
        ~(hits | np.concatenate(miss))[None],  # on an ignored box: neither hit nor miss
        objects.image[counted_flags],
        objects.label[counted_flags],
    )


def read_matched_run(
    directory: Path, library: Library, split: SplitName = "test"
) -> tuple[MatchedRun, inputs.Inputs]:
    """Return the outcomes of a run on a split, from the cache or by matching, and their inputs.

    UserError if the run is not a detector's, or if its detections or its data set are absent,
    damaged, or do not belong together.
    """
    identity = read_json(directory / "run.json")
    if not isinstance(identity, dict) or "student" not in identity:
        raise UserError(f"{directory}: not the run of a detector")
    truth = truth_of(directory, library, split)
    classes = [category["name"] for category in truth.coco["categories"]]
    folder = results_folder(directory, split)
    source = folder / DETECTIONS
    require_result(source)
    record = inputs.of_evaluation(directory, source, truth.fingerprint, "resampling", split)
    key = "\n".join([VERSION, record["detections"], truth.fingerprint, *classes])
    matched = MatchedRun.read(folder / FILE, key)
    if matched is None:
        matched = MatchedRun.of(truth.coco, read_detections(source, truth.coco))
        matched.write(folder / FILE, key)
    return matched, record


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an ``npz`` file; UserError if it is damaged."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); delete it, it is then computed again"
        ) from None


def write_arrays(path: Path, **values: Any) -> None:
    """Write arrays as a compressed ``npz`` file."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **values)
