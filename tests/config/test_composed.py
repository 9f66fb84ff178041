"""The typed view of composed configurations: detectors, distillers and classifiers."""

from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config import pipelines
from kd.config.classifiers import compose_classifier
from kd.config.composed import ComposedConfig, without_imagenet
from kd.config.library import Library
from kd.config.plan import Plan, plan
from tests.common.test_nested import wrapped
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)
DISTILLED = "retinanet-r18/rm_from_retinanet-r50"


@pytest.fixture(scope="module")
def demo() -> Plan:
    return plan("demo", "paper", LIBRARY)


@pytest.fixture(scope="module")
def dicod() -> Plan:
    return plan("dicod", "paper", LIBRARY)


def view(planned: Plan, text: str) -> ComposedConfig:
    """Return the view of the first run whose name contains a text."""
    return next(run.composed for name, run in planned.runs.items() if f"/{text}/" in name)


def test_a_detector_is_its_own_student(demo: Plan) -> None:
    config = view(demo, "retinanet-r18/alone")
    assert config.kind == "detector"
    assert config.student == config.model
    assert (config.teacher, config.classifier, config.terms) == (None, None, {})
    assert config.teacher_checkpoints == {}
    assert config.imagenet_source == "torchvision://resnet18"
    assert config.norm == "BN"


def test_a_distiller_has_student_teacher_and_terms(demo: Plan) -> None:
    config, teacher = view(demo, DISTILLED), view(demo, "retinanet-r50/alone")
    assert config.kind == "distiller"
    assert config.student == view(demo, "retinanet-r18/alone").model
    assert config.teacher is not None
    assert config.teacher["bbox_head"] == teacher.model["bbox_head"]
    (path,) = config.teacher_checkpoints.values()
    assert path.name == "weights.pth"
    assert "retinanet-r50/alone" in str(path)
    assert {*config.terms} == {"rm"}


def test_a_classifier_teaches_beside_a_detector_or_alone(dicod: Plan) -> None:
    teachers = [{*run.composed.teacher_checkpoints} for run in dicod.runs.values() if run.method]
    assert {"classifier"} in teachers
    assert {"teacher", "classifier"} in teachers
    config = next(run.composed for run in dicod.runs.values() if run.classifier)
    assert config.classifier is not None
    assert config.classifier["type"] == "ObjectClassifier"


def test_the_numbers_of_a_training_are_those_of_its_schedule(demo: Plan) -> None:
    config, schedule = view(demo, DISTILLED), LIBRARY.schedule("1x", "tests")
    assert config.batch_size == schedule.batch_size
    assert config.epochs == schedule.epochs
    assert config.learning_rate == schedule.lr
    assert (config.precision, config.seed) == ("float32", 0)


def test_splits_have_readers_pipelines_and_classes(demo: Plan) -> None:
    config = view(demo, DISTILLED)
    (reader,) = config.readers("train")
    assert reader["ann_file"] == "annotations/instances_train2017.json"
    assert len(config.class_names) == 80
    assert config.image_sizes("train") == config.image_sizes("test") == [(1333, 800)]


def test_data_sets_that_are_joined_have_a_reader_and_a_pipeline_each() -> None:
    planned = plan("defeat", "paper", LIBRARY)
    config = next(run.composed for run in planned.runs.values() if run.dataset == "voc0712")
    assert len(config.readers("train")) == len(config.pipelines("train")) == 2
    assert len(config.class_names) == 20


def test_images_that_are_stretched_have_a_size_as_well(dicod: Plan) -> None:
    config = next(run.composed for run in dicod.runs.values() if run.detector == "ssd300")
    assert config.image_sizes("train") == config.image_sizes("test") == [(300, 300)]


def test_a_classifier_of_crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ComposedConfig(compose_classifier("r50", "coco2017", 3, LIBRARY, "tests"))
    assert config.kind == "classifier"
    assert config.student == config.model
    assert config.crops is not None
    assert config.crops["dataset"] == "coco2017"
    assert len(config.class_names) == config.model["classes"] == 80
    assert (config.batch_size, config.epochs, config.seed) == (128, 12, 3)
    assert config.imagenet_source == "resnet50"
    assert config.image_sizes("train") == []


def test_published_weights_have_no_training_split() -> None:
    checkpoint = {"source": "weights.pth", "sha256": "0" * 64}
    config = ComposedConfig({"model": {"type": "RetinaNet"}, "published_checkpoint": checkpoint})
    assert config.published_checkpoint == checkpoint
    assert not config.has_split("train")


def test_every_student_can_start_from_random_weights(demo: Plan) -> None:
    """A classifier names its ImageNet weights elsewhere than a detector does."""
    classifier = compose_classifier("r50", "coco2017", 0, LIBRARY, "tests")
    detector, distiller = (view(demo, text) for text in ("retinanet-r18/alone", DISTILLED))
    for settings in (classifier, detector.settings, distiller.settings):
        before = ComposedConfig(settings)
        after = ComposedConfig(without_imagenet(settings))
        assert before.imagenet_source is not None
        assert after.imagenet_source is None
        assert without_imagenet(after.settings) is after.settings
        assert after.teacher == before.teacher


def test_a_configuration_is_read_from_its_directory(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model": {"type": "RetinaNet"}}')
    assert ComposedConfig.read(tmp_path).kind == "detector"
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config.json: not a composed configuration"):
        ComposedConfig.read(tmp_path)


# --- Data sets in data sets ----------------------------------------------------------------


def test_transforms_of_an_outer_data_set_are_random_ones() -> None:
    config = ComposedConfig({"train_dataloader": {"dataset": wrapped()}})
    assert pipelines.random_transforms(config) == ["Mosaic", "one", "two"]


STRETCHED: dict[str, Any] = {"pipeline": [{"type": "Resize", "scale": [96, 96]}]}


@pytest.mark.parametrize(("dataset", "side"), [(wrapped(), 64), (STRETCHED, 96)])
def test_narrow_images_in_half_precision_are_refused_in_every_pipeline(
    tmp_path: Path, dataset: dict[str, Any], side: int
) -> None:
    """VOC 2007 and 2012 are joined, two levels down; SSD stretches its images."""
    import torch

    from kd.training.train import _check_precision

    if torch.cuda.is_available():
        pytest.skip("a GPU computes them well")
    optim_wrapper = {"precision": "bfloat16"}
    settings = {"optim_wrapper": optim_wrapper, "train_dataloader": {"dataset": dataset}}
    with pytest.raises(UserError, match=f"images of {side} x {side} pixels in bfloat16 need a GPU"):
        _check_precision(ComposedConfig(settings), tmp_path)
