"""Rehearsals need no initial weights."""

from pathlib import Path
from typing import Any

import pytest

from kd.rehearsal.configuration import with_available_weights

INITIAL = {"source": "https://example.org/a-5560aee8.pth", "sha256": "5560aee8"}
CONFIG: dict[str, Any] = {"model": {"type": "RetinaNet", "backbone": {}}}


def test_an_absent_detector_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = {**CONFIG, "initial_checkpoint": INITIAL}
    assert with_available_weights(config) == (CONFIG, ["a published detector"])
    Path("checkpoints").mkdir()
    Path("checkpoints/a-5560aee8.pth").touch()
    assert with_available_weights(config) == (config, [])


def test_a_training_from_scratch_needs_none() -> None:
    assert with_available_weights(CONFIG) == (CONFIG, [])
