"""The benchmark of a step's time builds a pair of detectors and measures a method."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.step_time import Pair, measured, random_batch
from kd.profiling import measure


def test_a_method_is_measured_with_random_weights(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    options = argparse.Namespace(methods=["fitnets"], rounds=1)
    pair = Pair("retinanet", "smoke", tmp_path)
    notes: list[str] = []
    (line,) = measured(pair, random_batch(1, 128, 128), options, notes)
    assert notes == []
    assert line.what == "fitnets" and line.value.median > 0


def test_a_method_without_enough_memory_is_a_note_and_the_next_one_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    times = measure.times

    def fail_once(*arguments: Any) -> measure.Times:
        monkeypatch.setattr(measure, "times", times)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure, "times", fail_once)
    options = argparse.Namespace(methods=["pfi", "fitnets"], rounds=1)
    notes: list[str] = []
    pair = Pair("retinanet", "smoke", tmp_path)
    lines = [*measured(pair, random_batch(1, 128, 128), options, notes)]
    assert [line.what for line in lines] == ["fitnets"]
    assert notes == ["pfi: out of GPU memory; choose a smaller --batch."]
