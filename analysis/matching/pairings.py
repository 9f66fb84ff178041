"""Detections of a run, paired with the objects of its test split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd.evaluation.evaluate import DETECTIONS, read_detections
from kd.evaluation.matching import LEAST_OVERLAP, Pairing, pair


def read_pairing(
    directory: Path, ground_truth: Mapping[str, Any], least_overlap: float = LEAST_OVERLAP
) -> Pairing:
    """Return the pairing of a run with the COCO dict of its test split.

    UserError if its detections are absent, damaged, or of another split.
    """
    truth = dict(ground_truth)
    return pair(truth, read_detections(directory / DETECTIONS, truth), least_overlap)
