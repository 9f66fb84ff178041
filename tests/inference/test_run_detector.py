"""The detector of a run in use: the boxes of ``kd predict``, in any batch."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope

from kd.common.errors import UserError
from kd.config.compose import WEIGHTS
from kd.data.decoding import load
from kd.evaluation.predict import detections, split_batches
from kd.inference.loading import device_of, load_detector
from kd.inference.run_detector import RunDetector
from kd.models import weights


@pytest.mark.parametrize(
    ("family", "student"),
    [
        ("retinanet", "r18-w0.125"),
        ("faster_rcnn", "r18-w0.125"),
        ("ssd300", "r18-w0.125"),
        ("yolox", "csp-darknet-tiny-w0.25"),
    ],
)
def test_detections_are_those_of_prediction(run_of, family, student):
    run = run_of(family, student)
    init_default_scope("mmdet")
    batch = next(iter(split_batches(run.config, 0, "test")))
    network = weights.load_frozen(run.config["model"], run.directory / WEIGHTS).to("cpu")
    (expected,) = detections(network, batch)
    image = load(Path(batch["data_samples"][0].img_path))
    detector = load_detector(run.directory, "cpu")
    (detected,) = detector.detect([image])
    assert detector.classes == run.composed.class_names
    assert len(detected.scores) == len(expected.score) > 0
    assert detected.scores.tolist() == expected.score.tolist()
    assert detected.labels.tolist() == expected.label.tolist()
    corners = np.hstack([expected.box[:, :2], expected.box[:, :2] + expected.box[:, 2:]])
    np.testing.assert_allclose(detected.boxes, corners, atol=0.01)


def test_the_detections_in_an_image_do_not_depend_on_its_batch(run_of):
    detector = RunDetector(run_of().directory, "cpu")
    random = np.random.default_rng(0)
    images = [
        random.integers(0, 256, (*size, 3), dtype=np.uint8)
        for size in ((64, 64), (30, 90), (64, 64), (200, 100), (1, 1))
    ]
    together = detector.detect(images)
    for image, detected in zip(images, together, strict=True):
        (alone,) = detector.detect([image])
        np.testing.assert_allclose(detected.scores, alone.scores, atol=1e-6)
        assert (np.diff(detected.scores) <= 0).all()
        height, width = image.shape[:2]
        assert (detected.boxes >= 0).all()
        assert (detected.boxes <= [width, height, width, height]).all()
    assert detector.detect([]) == []


def test_no_detection_is_no_box(run_of):
    detector = RunDetector(run_of(score=1.0).directory, "cpu")
    (detected,) = detector.detect([np.zeros((40, 60, 3), np.uint8)])
    assert detected.boxes.shape == (0, 4) and detected.scores.shape == detected.labels.shape == (0,)


def test_a_run_without_weights_names_the_command(run_of):
    run = run_of()
    (run.directory / WEIGHTS).unlink()
    with pytest.raises(UserError, match=f"weights.pth: no such file.*kd train {run.directory}"):
        load_detector(run.directory, "cpu")


@pytest.mark.parametrize("name", ["gpu0", "cuda:99", "meta"])
def test_an_absent_device_is_refused(name):
    with pytest.raises(UserError, match=f"device '{name}'"):
        device_of(name)
