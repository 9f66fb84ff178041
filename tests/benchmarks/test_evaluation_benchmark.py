"""The benchmark of evaluation times the command that users run."""

import pytest

from benchmarks.evaluation import generate, written


def test_the_timed_command_evaluates_the_generated_detections(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with written(*generate(3)) as step:
        step()
    assert "metrics.json: AP" in capfd.readouterr().out
