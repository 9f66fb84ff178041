"""Exported files: what they contain, and that they run without this project."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest

from kd.data.decoding import load
from kd.export.onnx_form import OPSET
from kd.inference.onnx_detector import OnnxDetector
from kd.inference.run_detector import RunDetector
from kd.models import weights
from tests.export.conftest import AP

BLOCKED = """
import runpy, sys
for name in ("torch", "torchvision", "mmdet", "mmengine", "mmcv", "kd", "cv2"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CLEAN = """
import json, sys
sys.path += [sys.argv[1], sys.argv[2]]
import mmcv_lite_operators
from mmdet.apis import inference_detector, init_detector
detector = init_detector("mmdet_config.py", "mmdet_weights.pth", device="cpu")
instances = inference_detector(detector, sys.argv[3]).pred_instances
try:
    import kd
except ImportError:
    print(json.dumps([detector.dataset_meta["classes"], instances.scores.tolist()]))
"""


@pytest.fixture(scope="module")
def image(shapes_root):
    return Path(shapes_root, "test/000000.png")


@pytest.fixture
def expected(exported, image, monkeypatch):
    monkeypatch.chdir(exported.project)
    return RunDetector(exported.run.directory, "cpu").detect([load(image)])[0]


def test_onnx_metadata_describe_the_detector(exported):
    model = onnx.load(exported.folder / "detector.onnx")
    onnx.checker.check_model(model)
    facts = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(facts["classes"]) == exported.run.composed.class_names
    assert json.loads(facts["resize"]) == {"width": 64, "height": 64, "keep_ratio": False}
    assert (facts["pad_divisor"], json.loads(facts["AP"])) == ("1", AP)
    assert "Apache-2.0" in facts["license"]
    assert facts["run"] == exported.run.directory.as_posix()
    assert str(exported.project) not in str(facts)
    assert {one.domain: one.version for one in model.opset_import}[""] == OPSET


def test_the_script_needs_neither_torch_nor_mmdet(exported, image, expected, tmp_path):
    script, model = exported.folder / "detect_onnx.py", exported.folder / "detector.onnx"
    command = [sys.executable, "-c", BLOCKED, script, model, image, "--score", "0", "--draw", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    printed = [line for line in lines if len(line) == 7]
    assert printed[0][1] == exported.run.composed.class_names[expected.labels[0]]
    np.testing.assert_allclose(float(printed[0][2]), expected.scores[0], atol=0.006)
    assert (tmp_path / "000000.png").exists()
    assert len(script.read_text().splitlines()) < 60


def test_mmdet_loads_its_form_without_this_project(exported, image, expected):
    site = sysconfig.get_paths()["purelib"]
    # -I ignores PYTHONPATH, and -S the .pth files, one of which has the path of this project.
    command = [sys.executable, "-I", "-S", "-c", CLEAN, site, str(exported.folder), image]
    done = subprocess.run(command, capture_output=True, text=True, cwd=exported.folder)
    assert done.returncode == 0, done.stderr
    classes, scores = json.loads(done.stdout.splitlines()[-1])
    assert classes == exported.run.composed.class_names
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)


def test_mmdet_weights_hold_tensors_and_class_names_alone(exported):
    content = weights.read(exported.folder / "mmdet_weights.pth")
    assert content.keys() == {"state_dict", "meta"}
    classes = tuple(exported.run.composed.class_names)
    assert content["meta"] == {"dataset_meta": {"classes": classes}}
    config = (exported.folder / "mmdet_config.py").read_text()
    assert [word for word in ("kd.", str(exported.project)) if word in config] == []


def test_an_onnx_file_detects_as_the_run_does(exported, image, expected):
    detector = OnnxDetector(exported.folder / "detector.onnx")
    detected = detector.predict(detector.prepare([load(image)] * 2))
    assert detector.size == (64, 64)
    for one in detected:
        np.testing.assert_allclose(one.scores, expected.scores, atol=1e-3)
