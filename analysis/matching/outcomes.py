"""What AP is taken of: the detections of a run, ranked, each right, wrong or ignored.

Matching is done once for a run. ``matches.npz`` in its directory keeps the outcome with digests of
what was matched, and is made anew when detections or test split have changed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np

from analysis.matching.matching import Pairing, match, pair, to_find
from kd.common.errors import UserError
from kd.common.files import read_json, replacing
from kd.config.library import Library
from kd.evaluation.detections import by_class, read
from kd.evaluation.evaluate import DETECTIONS, read_detections, truth_of
from kd.evaluation.voc import Flags, Floats, Integers, judge
from kd.records import inputs

IOUS: Floats = np.linspace(0.5, 0.95, 10)
"""Of COCO's AP, to the bit as pycocotools has them."""
FILE = "matches.npz"
VERSION = "1"
"""Of what is in the file; another number makes all files anew."""


@dataclass(frozen=True)
class Outcomes:
    """Detections (D,) by label, falling score, image, order in the list; objects (G,) to be found.

    ``image`` and ``label`` are positions among sorted image ids and classes; ``correct`` and
    ``ignored`` (Q, D) hold for one IoU a row.
    """

    image: Integers
    label: Integers
    score: Floats
    correct: Flags
    ignored: Flags
    object_image: Integers
    object_label: Integers


@dataclass(frozen=True)
class Matched:
    """A run on its test split, as COCO matches (ten IoUs) and as VOC does (one)."""

    coco: Outcomes
    voc: Outcomes
    images: int
    classes: int

    @classmethod
    def of(cls, ground_truth: Mapping[str, Any], detections: list[Any]) -> Self:
        """Match COCO results to a COCO dict; UserError as ``kd.evaluation.detections.read``."""
        pairing = pair(ground_truth, detections)
        voc = _voc(ground_truth, detections, pairing.classes)
        return cls(_coco(pairing), voc, len(pairing.images), len(pairing.classes))

    @classmethod
    def read(cls, path: Path, key: str) -> Self | None:
        """Return what a file holds; None without it and where it was written with another key.

        UserError where it is damaged.
        """
        if not path.exists():
            return None
        values = read_arrays(path)
        if str(values["key"]) != key:
            return None
        names = [field.name for field in fields(Outcomes)]
        coco, voc = (
            Outcomes(**{name: values[f"{kind}_{name}"] for name in names})
            for kind in ("coco", "voc")
        )
        return cls(coco, voc, int(values["images"]), int(values["classes"]))

    def write(self, path: Path, key: str) -> None:
        """Write the file that ``read`` reads."""
        values = asdict(self)
        for kind in ("coco", "voc"):
            values |= {f"{kind}_{name}": value for name, value in values.pop(kind).items()}
        write_arrays(path, key=key, **values)


def _coco(pairing: Pairing) -> Outcomes:
    found, objects, counted = pairing.detections, pairing.objects, to_find(pairing.objects)
    matches = [match(pairing, iou) for iou in IOUS.tolist()]
    return Outcomes(
        found.image,
        found.label,
        found.score,
        np.stack([each.right for each in matches]),
        np.stack([each.ignored for each in matches]),
        objects.image[counted],
        objects.label[counted],
    )


def _voc(ground_truth: Mapping[str, Any], detections: list[Any], classes: list[str]) -> Outcomes:
    _, objects, found = read(ground_truth, detections, classes)
    order, hit, miss = [], [], []
    for truth, boxes, place in by_class(objects, found, len(classes)):
        judged = judge(truth, boxes)
        order.append(place[judged.order])
        hit.append(judged.hit)
        miss.append(judged.miss)
    ranked, hits, counted = np.concatenate(order), np.concatenate(hit), ~objects.voc_ignored
    return Outcomes(
        found.image[ranked],
        found.label[ranked],
        found.score[ranked],
        hits[None],
        ~(hits | np.concatenate(miss))[None],
        objects.image[counted],
        objects.label[counted],
    )


def read_matched(directory: Path, library: Library) -> tuple[Matched, inputs.Inputs]:
    """Return the outcomes of a run and what they depend on; match if need be.

    UserError where the run is not a detector's, or its detections or its data set are absent,
    damaged, or not of each other.
    """
    identity = read_json(directory / "run.json")
    if not isinstance(identity, dict) or "student" not in identity:
        raise UserError(f"{directory}: not the run of a detector")
    split = truth_of(directory, library)
    classes = [category["name"] for category in split.coco["categories"]]
    source = directory / DETECTIONS
    if not source.exists():
        raise UserError(f"{source}: no such file; `kd predict` writes it")
    depends = inputs.of_evaluation(directory, source, split.fingerprint, "resampling")
    key = "\n".join([VERSION, depends["detections"], split.fingerprint, *classes])
    matched = Matched.read(directory / FILE, key)
    if matched is None:
        matched = Matched.of(split.coco, read_detections(source, split.coco))
        matched.write(directory / FILE, key)
    return matched, depends


def read_arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an ``npz`` file; UserError where it is damaged."""
    try:
        with np.load(path) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it, it is made anew") from None


def write_arrays(path: Path, **values: Any) -> None:
    """Write arrays as a compressed ``npz`` file."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **values)
