"""The exported networks compute mmdet's detections, for any batch and size of images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from kd.config.compose import WEIGHTS
from kd.data.decoding import load
from kd.export.export import TrainedRun, export
from kd.export.forms import FORMS
from kd.inference.loading import load_detector
from kd.inference.run_detector import RunDetector
from kd.models import weights
from tests.support.tiny_detectors import save_random_weights

FAMILIES = [
    ("retinanet", "r18-w0.125"),
    ("faster_rcnn", "r18-w0.125"),
    ("reppoints", "r18-w0.125"),  # deformable convolutions
    ("yolov3", "r18-w0.125"),
]


@pytest.mark.parametrize(("family", "student"), FAMILIES)
def test_the_onnx_form_detects_what_the_run_detects(run_of, tmp_path, shapes_root, family, student):
    run = run_of(family, student)
    export(TrainedRun.read(run.directory), ["onnx"], tmp_path / "exported")
    image = load(Path(shapes_root, "test/000000.png"))
    wide = np.concatenate([image, image[:, ::-1]], axis=1)  # is resized, and has another shape
    exported, trained = load_detector(tmp_path / "exported"), RunDetector(run.directory, "cpu")
    assert exported.classes == trained.classes
    assert exported.size == trained.size
    (ours, resized), (expected, resized_expected) = (
        detector.detect([image, wide]) for detector in (exported, trained)
    )
    assert len(ours.scores) == len(expected.scores) > 0
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-3)
    near = np.abs(ours.boxes[:, None] - expected.boxes[:10]).max(-1) < 0.05
    assert (near & (ours.labels[:, None] == expected.labels[:10])).any(0).all()
    # Both resize to integers, and differ by 1 in some pixels.
    np.testing.assert_allclose(resized.scores, resized_expected.scores, atol=0.02)


@pytest.mark.parametrize("family", ["fcos", "atss", "gfl", "tood", "vfnet", "ddod", "cascade_rcnn"])
def test_the_network_computes_the_detections_of_mmdet(run_of, family):
    network = TrainedRun.read(run_of(family, "r18-w0.125").directory).network
    images = torch.randint(0, 256, (2, 3, 192, 256), dtype=torch.uint8)
    size = {"img_shape": (192, 256), "ori_shape": (192, 256), "scale_factor": (1.0, 1.0)}
    samples = [DetDataSample(metainfo=size) for _ in images]
    with torch.no_grad():
        expected = network.detector.test_step(
            {"inputs": [image.flip(0) for image in images], "data_samples": samples}
        )
        detected = network(images.float())
    for sample, *columns in zip(expected, *detected, strict=True):
        instances = sample.pred_instances
        count = len(instances)
        assert count > 0
        parts = (instances.bboxes, instances.scores, instances.labels)
        for column, part in zip(columns, parts, strict=True):
            assert torch.equal(column[:count], part)


def test_torchscript_saves_a_network_with_functions_of_mmdet(run_of, tmp_path):
    written = export(TrainedRun.read(run_of("tood", "r18-w0.125").directory), FORMS[2:], tmp_path)
    script = torch.jit.load(str(written["torchscript"][0]))
    assert [len(output) for output in script(torch.zeros(2, 3, 200, 130))] == [2, 2, 2]


def test_torchscript_computes_the_detections_of_the_network(exported):
    images = torch.randint(0, 256, (2, 3, 64, 64)).float()
    script = torch.jit.load(str(exported.folder / "detector.pt"))
    network = _network(exported)
    with torch.no_grad():
        for ours, expected in zip(script(images), network(images), strict=True):
            assert torch.equal(ours, expected)


def _network(exported):
    import os

    before = Path.cwd()
    os.chdir(exported.project)
    try:
        return TrainedRun.read(exported.run.directory).network
    finally:
        os.chdir(before)


def test_the_student_of_a_distilled_run_is_exported(study, tmp_path):
    run = next(run for run in study(["soft_labels"]).runs.values() if run.teacher)
    run.write()
    save_random_weights(run.composed.student, run.directory)
    written = export(TrainedRun.read(run.directory), FORMS[:2], tmp_path)
    names = weights.read(written["mmdet"][1])["state_dict"].keys()
    assert names == weights.read(run.directory / WEIGHTS)["state_dict"].keys()
    assert "teacher" not in written["mmdet"][0].read_text()
