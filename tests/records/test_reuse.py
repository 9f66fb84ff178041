"""Files of a run are reused only if all of their inputs are the same.

The matrix changes each input of a run in each state of the run. A step starts again or refuses the
files of an earlier step, or the table marks the run. Steps without the input are not affected.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from analysis.statistics import resampled
from analysis.tables import comparability
from kd.common.errors import UserError
from kd.config.library import Library
from kd.data.fingerprint import fingerprints
from kd.evaluation.evaluate import measure
from kd.evaluation.predict import predict
from kd.models import weights
from kd.records import inputs
from kd.records.model_size import read_size
from kd.training.train import train
from tests.support.tiny import CLASSES, DISTILLED, TEACHER, edit, make_project, write_run
from tests.support.training import interrupted_before

DATASET = "configs/datasets/shapes-tiny.yaml"
ANNOTATIONS = Path("data/shapes-tiny/annotations")
STATES = ("new", "interrupted", "trained", "predicted", "evaluated")


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with a trained teacher, copied as its student reached each state."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("states")
    make_project(folder / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "project")
        edit("configs/schedules/tiny.yaml", checkpoint_steps=2)
        edit(DATASET, generate=None)  # as a data set of one's own, whose files may move
        train(write_run(TEACHER))
        run = write_run(DISTILLED)
        for state, step in zip(STATES, (None, interrupt, train, predict, assess), strict=True):
            if step:
                step(run)
            shutil.copytree(".", folder / state)
    return folder


def interrupt(run: Path) -> None:
    with interrupted_before(step=4):
        train(run)


def assess(run: Path) -> None:
    measure(run, Library())
    resampled.write(run, Library())


@pytest.fixture
def enter(
    states: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Path]]:
    """Return a function that enters a copy of the project in a state and returns its run."""

    def enter(state: str) -> Path:
        project = tmp_path / state
        shutil.copytree(states / state, project)
        monkeypatch.chdir(project)
        (config,) = Path("results/runs").glob(f"**/{DISTILLED}*/*/config.json")
        return config.parent

    return enter


# --- The inputs, each with a change ----------------------------------------------------------


def annotations(split: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = ANNOTATIONS / f"{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def swap_labels(content: dict[str, Any]) -> None:
    for box in content["annotations"]:
        box["category_id"] = len(CLASSES) + 1 - box["category_id"]


def move_an_image_to_the_test_split(run: Path) -> None:
    split: dict[str, dict[str, Any]] = {}
    for name in ("train", "test"):
        split[name] = json.loads((ANNOTATIONS / f"{name}.json").read_text())
    image = split["train"]["images"].pop()
    boxes = [box for box in split["train"]["annotations"] if box["image_id"] == image["id"]]
    split["train"]["annotations"] = [b for b in split["train"]["annotations"] if b not in boxes]
    shutil.move(f"data/shapes-tiny/train/{image['file_name']}", "data/shapes-tiny/test/moved.png")
    split["test"]["images"].append(image | {"id": 1000, "file_name": "moved.png"})
    split["test"]["annotations"] += [
        box | {"image_id": 1000, "id": 1000 + number} for number, box in enumerate(boxes)
    ]
    for name, content in split.items():
        (ANNOTATIONS / f"{name}.json").write_text(json.dumps(content))


def repaint(split: str) -> None:
    images = sorted(Path("data/shapes-tiny", split).glob("*.png"))
    shutil.copy(images[0], images[1])


def multiply(path: Path, factor: float) -> None:
    content = weights.read(path)
    content["state_dict"] = {
        name: value * factor if value.is_floating_point() else value
        for name, value in content["state_dict"].items()
    }
    weights.save(path, content)


def retrain_the_teacher(run: Path) -> None:
    teacher = Path(json.loads((run / "config.json").read_text())["model"]["checkpoint"])
    multiply(teacher, 1.5)
    record = json.loads((teacher.parent / "provenance.json").read_text())
    record["weights_sha256"] = inputs.weights_digest(teacher)
    (teacher.parent / "provenance.json").write_text(json.dumps(record))


def edit_config(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((run / "config.json").read_text())
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def double_the_weight(config: dict[str, Any]) -> None:
    config["model"]["methods"]["rm"]["weight"] *= 2


def slow_down(config: dict[str, Any]) -> None:
    config["optim_wrapper"]["optimizer"]["lr"] /= 2


class Input(NamedTuple):
    """Change of an input, with its effect on a run in each state."""

    change: Callable[[Path], None]
    training: str
    """Effect on an interrupted training: ``same`` if it resumes, ``refused`` if it does not run."""
    prediction: bool
    """True if trained weights are still used."""
    evaluation: bool
    """True if detections are still used."""
    marks: set[str]
    """Marks of an evaluated run in the table."""


DATA = "data"
MATRIX = {
    "nothing": Input(lambda run: None, "same", True, True, set()),
    "training labels": Input(
        lambda run: annotations("train", swap_labels), DATA, False, True, {comparability.OLD_DATA}
    ),
    "training images": Input(
        lambda run: repaint("train"), DATA, False, True, {comparability.OLD_DATA}
    ),
    "lists of the splits": Input(
        move_an_image_to_the_test_split,
        DATA,
        False,
        False,
        {comparability.OLD_DATA, comparability.OLD_TEST},
    ),
    "test labels": Input(
        lambda run: annotations("test", swap_labels), "same", True, False, {comparability.OLD_TEST}
    ),
    "test images": Input(
        lambda run: repaint("test"), "same", True, False, {comparability.OLD_TEST}
    ),
    "classes of the entry": Input(
        lambda run: edit(DATASET, classes=CLASSES[:-1]), "refused", False, False, set()
    ),
    "order of the classes": Input(
        lambda run: edit(DATASET, classes=CLASSES[::-1]), "refused", False, False, set()
    ),
    "files of the entry": Input(
        lambda run: edit(DATASET, test__annotations="annotations/train.json"),
        "same",
        False,
        False,
        {comparability.OLD_TEST},
    ),
    "schedule": Input(
        lambda run: edit_config(run, slow_down),
        "configuration",
        False,
        True,
        {comparability.OLD_CONFIGURATION},
    ),
    "weight of the method": Input(
        lambda run: edit_config(run, double_the_weight),
        "configuration",
        False,
        True,
        {comparability.OLD_CONFIGURATION},
    ),
    "teacher": Input(
        retrain_the_teacher, "teacher's weights", True, True, {comparability.OTHER_TEACHER}
    ),
}


@pytest.mark.parametrize("changed", MATRIX)
def test_a_run_that_is_not_begun_records_the_inputs_that_its_first_step_sees(
    changed: str, enter: Callable[[str], Path]
) -> None:
    run = enter("new")
    MATRIX[changed].change(run)
    if MATRIX[changed].training == "refused":
        with pytest.raises(UserError, match=r"changed since .* was composed; compose the run"):
            train(run)
        return
    with interrupted_before(step=1):
        train(run)
    config = json.loads((run / "config.json").read_text())
    depends = inputs.recorded(run, "training")
    assert depends == inputs.of_training(config, run, Library())
    assert depends["data"] and depends["teacher"] and depends["configuration"]


@pytest.mark.parametrize("changed", MATRIX)
def test_an_interrupted_run_resumes_only_from_the_same_inputs(
    changed: str, enter: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = enter("interrupted")
    MATRIX[changed].change(run)
    expected = MATRIX[changed].training
    if expected == "refused":
        with pytest.raises(UserError, match=r"changed since .* was composed; compose the run"):
            train(run)
        return
    with interrupted_before(step=4 if expected == "same" else 0):
        train(run)
    printed = capsys.readouterr().out
    if expected == "same":
        assert "resuming at step 4 of 12" in printed
    else:
        assert f"checkpoints: the {expected} changed since; training starts again" in printed
        assert "resuming" not in printed
        assert (run / "checkpoints-replaced" / "step00000004.pth").is_file()


@pytest.mark.parametrize("changed", MATRIX)
def test_weights_are_used_only_if_training_would_give_them_now(
    changed: str, enter: Callable[[str], Path]
) -> None:
    run = enter("trained")
    MATRIX[changed].change(run)
    if MATRIX[changed].prediction:
        predict(run)
        assert read_size(run) is not None
        return
    with pytest.raises(UserError, match="changed since"):
        predict(run)
    assert not (run / "detections.json.gz").exists()


@pytest.mark.parametrize("changed", MATRIX)
def test_detections_are_used_only_on_the_test_split_that_they_were_made_on(
    changed: str, enter: Callable[[str], Path]
) -> None:
    run = enter("predicted")
    MATRIX[changed].change(run)
    for step in (measure, resampled.write):
        if MATRIX[changed].evaluation:
            step(run, Library())
            continue
        with pytest.raises(UserError, match="changed since"):
            step(run, Library())
    assert (run / "metrics.json").exists() == MATRIX[changed].evaluation


@pytest.mark.parametrize("changed", MATRIX)
def test_a_table_marks_what_was_computed_from_other_inputs(
    changed: str, enter: Callable[[str], Path]
) -> None:
    run = enter("evaluated")
    MATRIX[changed].change(run)
    with suppress(UserError):  # as in a workflow, whose check reports the problem
        fingerprints("shapes-tiny", Library().dataset("shapes-tiny", "test"))
    assert set(comparability.mismatches([run], [])) == MATRIX[changed].marks


# --- What the matrix cannot show -------------------------------------------------------------


def test_detections_of_other_weights_are_refused(enter: Callable[[str], Path]) -> None:
    run = enter("predicted")
    multiply(run / "weights.pth", 1.5)
    with pytest.raises(UserError, match=r"detections\.json\.gz: the weights changed since"):
        measure(run, Library())


def test_a_table_marks_figures_of_weights_that_were_replaced(enter: Callable[[str], Path]) -> None:
    run = enter("evaluated")
    record = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(record | {"weights_sha256": "0" * 64}))
    assert comparability.mismatches([run], []) == [comparability.OLD_WEIGHTS]


@pytest.mark.parametrize("step", ["training", "prediction", "evaluation", "resampling"])
def test_a_newer_version_of_a_step_uses_nothing_of_an_older_one(
    step: str, enter: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = enter("predicted")
    monkeypatch.setitem(inputs.VERSIONS, step, 2)
    if step == "training":
        with pytest.raises(UserError, match="the version of the code changed since; train"):
            predict(run)
    elif step == "prediction":
        with pytest.raises(UserError, match="the version of the code changed since; predict"):
            measure(run, Library())
    else:
        assess(run)
        assert inputs.recorded(run, step)["version"] == 2


def test_weights_and_checkpoints_without_a_record_are_not_used(
    enter: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = enter("trained")
    content = weights.read(run / "weights.pth")
    del content["inputs"]
    weights.save(run / "weights.pth", content)
    with pytest.raises(UserError, match=r"weights\.pth: no inputs were recorded with it; train"):
        predict(run)
    for path in (run / "checkpoints").iterdir():
        content = weights.read(path)
        del content["inputs"]
        weights.save(path, content)
    with interrupted_before(step=0):
        train(run)
    assert "no inputs were recorded with it; training starts again" in capsys.readouterr().out


def test_a_method_of_another_version_is_not_trained(enter: Callable[[str], Path]) -> None:
    run = enter("new")
    edit_config(run, lambda config: config["model"]["methods"]["rm"].update(version=0))
    with pytest.raises(UserError, match="version 0 of method 'rm' was replaced by version 1"):
        train(run)


def test_a_classifier_and_imported_weights_are_inputs(
    enter: Callable[[str], Path], tmp_path: Path
) -> None:
    run = enter("new")
    config = json.loads((run / "config.json").read_text())
    path = tmp_path / "classifier.pth"
    config["model"]["classifier_checkpoint"] = str(path)
    records = []
    for content in (b"one", b"two"):
        path.write_bytes(content)
        records.append(inputs.of_training(config, run, Library()))
    assert inputs.changes(*records) == "the classifier's weights changed since"
    published = {"published_checkpoint": {"source": "file", "sha256": "A" * 64}}
    assert inputs.of_training(published, run, Library())["imported"] == "a" * 64


def test_a_training_that_ended_is_not_repeated(
    enter: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A workflow that runs it again, since test labels were corrected, loses no time by it."""
    run = enter("trained")
    before = (run / "weights.pth").read_bytes()
    train(run)
    assert "resuming at step 12 of 12" in capsys.readouterr().out
    assert (run / "weights.pth").read_bytes() == before
