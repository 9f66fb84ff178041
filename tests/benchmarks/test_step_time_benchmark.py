"""The benchmark of a step's time builds a pair of detectors and measures a method."""

import argparse
from pathlib import Path

import torch

from benchmarks.step_time import _lines, _Pair, random_batch


def test_a_method_is_measured_with_random_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options = argparse.Namespace(methods=["fitnets"], rounds=1, detector="retinanet")
    pair = _Pair("retinanet", "smoke", tmp_path)
    (line,) = _lines(pair, random_batch(1, 128, 128), options)
    assert line.what == "fitnets" and line.value.median > 0
