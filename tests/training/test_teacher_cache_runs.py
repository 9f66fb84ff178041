"""``kd train --teacher-cache``: runs in two processes, refusals, and runs that repeat images."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.config import pipelines
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


def test_two_processes_train_the_same_weights_with_a_cache(project: None) -> None:
    from kd.models.weights import read_state

    run = write_run(DISTILLED)
    plain, cached = copy_run(run, "plain"), copy_run(run, "cached")
    train_in_two_processes(plain)
    output = train_in_two_processes(cached, "--teacher-cache", "50")
    assert changed(*(read_state(copy / "weights.pth") for copy in (plain, cached))) == []
    assert output.count("teacher outputs:") == 1
    assert "0 % of" not in output.splitlines()[-1]
    assert list(Path("results", "teacher_outputs").glob("*/*.safetensors"))


def test_a_run_without_a_teacher_is_refused_in_one_line(project: None) -> None:
    run = write_run(STUDENT)
    process = kd("train", run, "--teacher-cache", "50")
    assert process.communicate()[1] == (
        f"error: {run / 'config.json'}: this run has no detector as a teacher; "
        "leave out --teacher-cache\n"
    )
    assert process.returncode == 2
    assert "leave out --teacher-cache" in json.loads((run / "failure.json").read_text())["reason"]


def test_the_folder_of_teacher_outputs_is_not_a_study() -> None:
    assert "teacher_outputs" in FOLDERS


# --- Runs that repeat images -----------------------------------------------------------------


def config(study: str, detector: str, method: str | None) -> ComposedConfig:
    """Return the configuration of a study's first run with a detector and a method."""
    runs = plan(study, "smoke", Library()).runs.values()
    return ComposedConfig(
        next(run.config for run in runs if (run.detector, run.method) == (detector, method))
    )


@pytest.mark.parametrize(
    ("study", "detector", "method"),
    [("demo", "retinanet", "rm"), ("demo", "gfl", "pfi"), ("ours", "faster_rcnn", "mimic")],
)
def test_runs_that_flip_images_have_two_forms_of_an_image(
    study: str, detector: str, method: str
) -> None:
    distilled, alone = config(study, detector, method), config(study, detector, None)
    assert pipelines.random_transforms(distilled) == []
    assert pipelines.forms(distilled) == 2
    assert pipelines.is_repeated(distilled)
    assert not pipelines.is_repeated(alone)


def test_runs_with_random_crops_and_colors_do_not_repeat_images() -> None:
    distilled = config("dicod", "ssd300", "dicod")
    assert {"Expand", "PhotoMetricDistortion"} <= set(pipelines.random_transforms(distilled))
    assert not pipelines.is_repeated(distilled)


def test_the_transforms_of_every_concatenated_data_set_count() -> None:
    distilled = config("demo", "retinanet", "rm")
    inner = distilled.settings["train_dataloader"]["dataset"]["dataset"]
    cropped = {**inner, "pipeline": [inner["pipeline"][0], {"type": "RandomCrop"}]}
    concatenated = {"type": "ConcatDataset", "datasets": [inner, cropped]}
    loader = {"dataset": {"type": "SeededDataset", "dataset": concatenated, "seed": 0}}
    assert pipelines.random_transforms(ComposedConfig({"train_dataloader": loader})) == [
        "RandomCrop"
    ]


@pytest.mark.parametrize(
    ("position", "transform", "random"),
    [
        (-1, {"type": "RandomFlip", "prob": 0.5, "direction": "vertical"}, ["RandomFlip"]),
        (-1, {"type": "RandomFlip", "prob": 0.5}, []),
        (-1, {"type": "PhotoMetricDistortion"}, ["PhotoMetricDistortion"]),
        (1, {"type": "RandomFlip", "prob": 0.5}, ["RandomFlip"]),
    ],
)
def test_only_a_horizontal_flip_before_packing_is_repeatable(
    position: int, transform: Any, random: list[str]
) -> None:
    pipeline: list[Any] = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": [64, 64]}]
    pipeline += [{"type": "LoadAnnotations"}, {"type": "PackDetInputs"}]
    pipeline.insert(position, transform)
    config = ComposedConfig({"train_dataloader": {"dataset": {"pipeline": pipeline}}})
    assert pipelines.random_transforms(config) == random
