"""Runs of tiny detectors with random weights, or after five steps."""

import pytest

from kd.training.train import train
from tests.support.tiny_detectors import save_random_weights


@pytest.fixture
def run_of(study):
    """Return a function that writes a run of a tiny detector."""

    def write(family="retinanet", student="r18-w0.125", score=0.0, trained=False):
        plan = study([], detectors=(family,), student=student)
        run = next(run for run in plan.runs.values() if run.student == student)
        run.config["model"]["test_cfg"]["score_thr"] = score  # random weights have low scores
        run.write()
        if trained:
            train(run.directory)
        else:
            save_random_weights(run.config["model"], run.directory)
        return run

    return write
