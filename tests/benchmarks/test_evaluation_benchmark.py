"""The benchmark of evaluation times the command that users run."""

import pytest

from benchmarks.evaluation import PARTS, generate, parts_of_step, run_step, written
from kd.evaluation.metrics import Metrics


def test_the_timed_command_evaluates_the_generated_detections(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with written(*generate(3)) as folder:
        run_step(folder)
    assert "metrics.json: AP" in capfd.readouterr().out


def test_the_timed_parts_are_those_of_the_command() -> None:
    with written(*generate(3)) as folder:
        parts = {name: part() for name, part in parts_of_step(folder).items()}
        run_step(folder)
        assert parts["metrics"] == Metrics.read(folder / "metrics.json")
        assert parts.keys() == PARTS.keys()
