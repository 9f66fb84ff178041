"""Runs of earlier versions, whose ``config.json`` has mmdet's class names and no observer."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.figures.networks import RunNetworks
from analysis.statistics import resampled
from analysis.tables import comparability
from kd.config.canonical import CLASSES, canonical_form, composed_form
from kd.config.library import Library
from kd.evaluation.evaluate import measure
from kd.evaluation.predict import predict
from kd.records import inputs
from kd.training.train import train
from tests.support.tiny import DISTILLED, TEACHER, make_project, write_run
from tests.support.training import interrupted_before


def in_earlier_form(run: Path) -> Path:
    path = run / "config.json"
    text = json.dumps(canonical_form(json.loads(path.read_text())))
    assert "observer" not in text and not any(name in text for name in CLASSES.values())
    path.write_text(text)
    return run


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a distilled run in the earlier form, interrupted, resumed and evaluated."""
    torch.set_num_threads(1)
    project = make_project(tmp_path_factory.mktemp("earlier"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        train(in_earlier_form(write_run(TEACHER)))
        run = in_earlier_form(write_run(DISTILLED))
        with interrupted_before(step=4):
            train(run)
        train(run)
        predict(run)
        measure(run, Library())
        resampled.write(run, Library())
    return project / run


def test_the_record_has_the_digest_that_the_earlier_version_computed(evaluated: Path) -> None:
    config = json.loads((evaluated / "config.json").read_text())
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    assert inputs.recorded(evaluated, "training")["configuration"] == digest


def test_an_interrupted_run_resumes(evaluated: Path) -> None:
    lines = (evaluated / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(1, 13)]
    assert not (evaluated / "checkpoints-replaced").exists()


def test_a_run_is_predicted_and_evaluated(evaluated: Path) -> None:
    assert "AP" in json.loads((evaluated / "metrics.json").read_text())


def test_figures_load_its_networks(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(next(path for path in evaluated.parents if (path / "configs").is_dir()))
    networks = RunNetworks.load(evaluated)
    assert networks.detector.observer == networks.model.teacher.observer == "anchor"


@pytest.mark.parametrize("form", [canonical_form, composed_form])
def test_a_table_marks_nothing_in_either_form(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch, form: Callable[[Any], Any]
) -> None:
    monkeypatch.chdir(next(path for path in evaluated.parents if (path / "configs").is_dir()))
    path = evaluated / "config.json"
    path.write_text(json.dumps(form(json.loads(path.read_text()))))
    assert comparability.mismatches([evaluated], []) == []
