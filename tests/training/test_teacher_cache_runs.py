"""`kd train --teacher-cache`: its answers to a user, and processes that share a batch."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.config import repeatable
from kd.config.composed import ComposedConfig
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import FOLDERS
from tests.support.states import changed
from tests.support.tiny import (
    DISTILLED,
    STUDENT,
    TEACHER,
    copy_run,
    edit,
    kd,
    make_project,
    write_run,
)
from tests.support.training import train_in_two_processes


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, quiet_mmdet: None) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    import kd.runtime  # noqa: F401
    from kd.training.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/schedules/tiny.yaml", epochs=3)
        train(write_run(TEACHER))
        yield


def test_two_processes_train_to_the_same_weights_with_it(project: None) -> None:
    from kd.models.weights import read_state

    run = write_run(DISTILLED)
    plain, cached = copy_run(run, "plain"), copy_run(run, "cached")
    train_in_two_processes(plain)
    output = train_in_two_processes(cached, "--teacher-cache", "50")
    assert changed(*(read_state(copy / "weights.pth") for copy in (plain, cached))) == []
    assert output.count("teacher outputs:") == 1
    assert "0 % of" not in output.splitlines()[-1]
    assert list(Path("results", "teacher_outputs").glob("*/*.safetensors"))


def test_a_run_without_a_detector_to_learn_from_is_refused_in_a_line(project: None) -> None:
    run = write_run(STUDENT)
    process = kd("train", run, "--teacher-cache", "50")
    assert process.communicate()[1] == (
        f"error: {run / 'config.json'}: no detector teaches this run; leave out --teacher-cache\n"
    )
    assert process.returncode == 2
    assert "leave out --teacher-cache" in json.loads((run / "failure.json").read_text())["reason"]


def test_the_folder_of_outputs_is_no_study() -> None:
    assert "teacher_outputs" in FOLDERS


# --- Which runs it is for ------------------------------------------------------------------


def config(study: str, detector: str, method: str | None) -> dict[str, Any]:
    runs = plan(study, "smoke", Library()).runs.values()
    return next(r.config for r in runs if r.detector == detector and r.method == method)


@pytest.mark.parametrize(
    ("study", "detector", "method"),
    [("demo", "retinanet", "rm"), ("demo", "gfl", "pfi"), ("ours", "faster_rcnn", "mimic")],
)
def test_runs_that_flip_images_see_two_forms_of_each(
    study: str, detector: str, method: str
) -> None:
    taught = config(study, detector, method)
    assert repeatable.random_transforms(ComposedConfig(taught)) == []
    assert repeatable.forms(ComposedConfig(taught)) == 2
    assert repeatable.is_repeated(ComposedConfig(taught))
    assert not repeatable.is_repeated(ComposedConfig(config(study, detector, None)))


def test_runs_that_crop_and_colour_images_do_not() -> None:
    taught = config("dicod", "ssd300", "dicod")
    assert {"Expand", "PhotoMetricDistortion"} <= set(
        repeatable.random_transforms(ComposedConfig(taught))
    )
    assert not repeatable.is_repeated(ComposedConfig(taught))


def test_every_part_of_a_joined_data_set_counts() -> None:
    taught = config("demo", "retinanet", "rm")
    inner = taught["train_dataloader"]["dataset"]["dataset"]
    other = {**inner, "pipeline": [inner["pipeline"][0], {"type": "RandomCrop"}]}
    concatenated = {"type": "ConcatDataset", "datasets": [inner, other]}
    loader = {"dataset": {"type": "SeededDataset", "dataset": concatenated, "seed": 0}}
    assert repeatable.random_transforms(ComposedConfig({"train_dataloader": loader})) == [
        "RandomCrop"
    ]


@pytest.mark.parametrize(
    ("place", "step", "random"),
    [
        (-1, {"type": "RandomFlip", "prob": 0.5, "direction": "vertical"}, ["RandomFlip"]),
        (-1, {"type": "RandomFlip", "prob": 0.5}, []),
        (-1, {"type": "PhotoMetricDistortion"}, ["PhotoMetricDistortion"]),
        (1, {"type": "RandomFlip", "prob": 0.5}, ["RandomFlip"]),
    ],
)
def test_only_a_last_horizontal_flip_can_be_told(place: int, step: Any, random: list[str]) -> None:
    steps: list[Any] = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": [64, 64]}]
    steps += [{"type": "LoadAnnotations"}, {"type": "PackDetInputs"}]
    steps.insert(place, step)
    config = ComposedConfig({"train_dataloader": {"dataset": {"pipeline": steps}}})
    transforms = repeatable.random_transforms(config)
    assert transforms == random
