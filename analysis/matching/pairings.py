"""Detections of a run, paired with the objects of its test split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.evaluation.evaluate import DETECTIONS
from kd.evaluation.matching import LEAST_OVERLAP, Pairing, pair
from kd.evaluation.stored import read_detections


def read_pairing(
    directory: Path, ground_truth: Mapping[str, Any], least_overlap: float = LEAST_OVERLAP
) -> Pairing:
    """Return the pairing of a run with the COCO dict of its test split.

    UserError if its detections are absent, damaged, or of another split.
    """
    detections = read_detections(directory / DETECTIONS, ground_truth)
    return pair(ground_truth, detections, least_overlap)
