"""mmdet alone builds the detector of a run from ``mmdet_config.py`` and predicts the same boxes."""

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from kd.config.compose import WEIGHTS
from kd.config.composed import MMDET_CONFIG, ComposedConfig
from kd.evaluation.predict import detections, split_batches
from kd.models import weights
from kd.training.train import train
from tests.support.tiny_detectors import save_random_weights

import mmdet.apis  # isort: skip, after kd.models.mmdet_setup

torch.set_num_threads(1)

RUNS = [
    ("retinanet", "r18-w0.125"),
    ("faster_rcnn", "r18-w0.125"),
    ("ssd300", "r18-w0.125"),
    ("yolov3", "r18-w0.125"),
    ("rtmdet", "cspnext-tiny-w0.25"),
    ("yolox", "csp-darknet-tiny-w0.25"),
    ("retinanet", "swin-t-w0.125"),
    *((family, "r18-w0.125") for family in ("tood", "vfnet", "ddod", "reppoints")),
]


@pytest.mark.parametrize(("family", "student"), RUNS)
def test_mmdet_predicts_the_boxes_of_the_run(study, family, student):
    methods = ["soft_labels"] if family == "retinanet" else []
    plan = study(methods, detectors=(family,), student=student)
    run = next(run for run in plan.runs.values() if run.teacher or family != "retinanet")
    config = ComposedConfig(run.config)
    config.student["test_cfg"]["score_thr"] = 0.0  # random weights have low scores
    run.write()
    save_random_weights(config.student, run.directory)
    init_default_scope("mmdet")
    batch = next(iter(split_batches(run.config, 0, "test")))
    (expected,) = detections(
        weights.load_frozen(config.student, run.directory / WEIGHTS).to("cpu"), batch
    )

    path = str(run.directory / MMDET_CONFIG)
    detector = mmdet.apis.init_detector(path, str(run.directory / WEIGHTS), device="cpu")
    image = batch["data_samples"][0].img_path
    predicted = mmdet.apis.inference_detector(detector, image).pred_instances
    assert len(predicted) == len(expected.score) > 0
    assert predicted.scores.tolist() == expected.score.tolist()
    assert predicted.labels.tolist() == expected.label.tolist()
    corners = np.hstack([expected.box[:, :2], expected.box[:, :2] + expected.box[:, 2:]])
    np.testing.assert_allclose(predicted.bboxes.numpy(), corners, atol=0.01)


def test_weights_hold_the_names_of_the_classes(study):
    run = next(run for run in study(["pfi"]).runs.values() if run.teacher)
    run.write()
    train(run.directory)
    detector = mmdet.apis.init_detector(
        str(run.directory / MMDET_CONFIG), str(run.directory / WEIGHTS), device="cpu"
    )
    assert detector.dataset_meta["classes"] == run.composed.class_names


def test_the_configuration_names_no_class_of_this_project(study):
    for run in study(["soft_labels"], detectors=("retinanet", "faster_rcnn")).runs.values():
        run.write()
        text = (run.directory / MMDET_CONFIG).read_text()
        ours = ("custom_imports", "GlobalBatch", "Truncated", "FitInto", "Images")
        assert [name for name in ours if name in text] == []


def test_a_run_of_an_earlier_version_gets_the_configuration(study):
    run = next(iter(study([]).runs.values()))
    run.write()
    (run.directory / MMDET_CONFIG).unlink()
    run.write()
    assert (run.directory / MMDET_CONFIG).exists()
