"""Composed and canonical form of configurations: names of classes, observers and digests."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from kd.config.canonical import (
    CLASSES,
    built_model,
    canonical_form,
    composed_form,
    detector,
    student_alone,
)
from kd.config.composed import read_config
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run, digest_of
from kd.observers import OBSERVABLE, OBSERVERS
from kd.records.inputs import config_digest
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
DETECTORS = Library().names("detectors")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Return the runs of all detectors of one pair, teachers, baselines and distilled ones."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    edit(STUDY, tables__pair__detectors=DETECTORS, tables__pair__methods=["fitnets"])
    return list(plan("tiny", "tiny", Library()).runs.values())


def types(settings: Any) -> set[str]:
    """Return every ``type`` in nested settings."""
    if isinstance(settings, list):
        return set().union(*map(types, settings))
    if not isinstance(settings, dict):
        return set()
    inner = set().union(*map(types, settings.values()))
    return inner | ({settings["type"]} if isinstance(settings.get("type"), str) else set())


def test_composition_names_our_classes_and_a_known_observer(runs: list[Run]) -> None:
    kinds = set().union(*(types(run.config["model"]) for run in runs))
    assert not kinds & CLASSES.keys()
    assert {"TruncatedResNet", *(name for name in CLASSES.values() if "Head" in name)} <= kinds
    for run in runs:
        networks = [detector(run.config)]
        networks += [run.config["model"]["teacher"]] if run.teacher else []
        assert all(network["observer"] in OBSERVERS for network in networks)
        assert "observer" not in run.config["model"]


def test_every_observer_has_a_class_and_features() -> None:
    assert OBSERVERS.keys() == OBSERVABLE.keys()


def test_configuration_files_name_classes_of_mmdet() -> None:
    models = [Library().detector(name, "test").model for name in DETECTORS]
    models += [Library().backbone(name, "test")[0].model for name in Library().names("backbones")]
    assert types(models) >= CLASSES.keys()
    assert not types(models) & {*CLASSES.values()}


def test_the_canonical_form_has_mmdets_names_and_no_observer(runs: list[Run]) -> None:
    for run in runs:
        earlier = canonical_form(run.config)
        text = json.dumps(earlier)
        assert "observer" not in text
        assert not any(name in text for name in CLASSES.values())
        assert canonical_form(earlier) == earlier
        assert composed_form(earlier) == run.config == composed_form(run.config)


def test_digests_are_those_of_the_canonical_form(runs: list[Run]) -> None:
    for run in runs:
        earlier = canonical_form(run.config)
        assert run.digest == digest_of(earlier)
        plain = hashlib.sha256(json.dumps(earlier, sort_keys=True).encode()).hexdigest()
        assert config_digest(run.config) == config_digest(earlier) == plain


def test_a_registry_before_a_name_is_kept() -> None:
    model = {"backbone": {"type": "mmdet.ResNet"}, "bbox_head": {"type": "mmdet.RetinaHead"}}
    config = composed_form({"model": model})
    assert config["model"]["backbone"] == {"type": "mmdet.TruncatedResNet"}
    assert config["model"]["bbox_head"] == {"type": "mmdet.GlobalBatchRetinaHead"}
    assert config["observer"] == "anchor"
    assert canonical_form(config) == {"model": model}


def test_a_classifier_has_one_form() -> None:
    config = {"model": {"type": "ObjectClassifier", "architecture": "resnet18"}, "crops": {}}
    assert composed_form(config) == canonical_form(config) == config
    assert built_model(config) == config["model"]


def test_a_student_alone_is_composed_as_its_baseline(runs: list[Run]) -> None:
    baselines = {run.model: run for run in runs if not run.teacher}
    for run in (run for run in runs if run.teacher):
        assert student_alone(run.config) == baselines[run.model].config


# --- config.json of an earlier version -------------------------------------------------------


def test_an_earlier_config_is_read_as_it_is_composed_now(runs: list[Run]) -> None:
    for run in runs:
        write_earlier(run)
        assert read_config(run.directory) == run.config


def test_writing_a_run_replaces_an_earlier_config(runs: list[Run]) -> None:
    for run in runs:
        (run.directory / "run.json").parent.mkdir(parents=True, exist_ok=True)
        (run.directory / "run.json").write_text("{}")
        write_earlier(run)
        run.write()
        assert json.loads((run.directory / "config.json").read_text()) == run.config
        assert (run.directory / "run.json").read_text() == "{}"


def test_writing_a_run_does_not_replace_a_config_that_a_user_edited(runs: list[Run]) -> None:
    run = runs[-1]
    write_earlier(run)
    path = run.directory / "config.json"
    edited = json.loads(path.read_text()) | {"randomness": {"seed": 7}}
    path.write_text(json.dumps(edited))
    run.write()
    assert json.loads(path.read_text()) == edited


def write_earlier(run: Run) -> None:
    run.directory.mkdir(parents=True, exist_ok=True)
    (run.directory / "config.json").write_text(json.dumps(canonical_form(run.config)))
