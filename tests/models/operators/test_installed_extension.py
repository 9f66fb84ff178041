"""mmdet is imported before this project's modules, in its installation and from a wheel."""

import os
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from tests.support.paths import REPOSITORY

IMPORT = """
import sys
from mmdet.apis import inference_detector, init_detector
assert "kd.runtime" not in sys.modules
import torch, mmcv._ext, mmcv.ops
boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 29, 29]])
print(mmcv.ops.nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.5)[1].tolist())
import kd.runtime
from kd.models.mmcv_ops import install
print(install())
"""


def test_mmdet_is_imported_first_and_prints_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[1, 2]", "True"]


@pytest.mark.parametrize("version", ["standard", "editable"])
def test_a_wheel_adds_the_module_to_mmcv(tmp_path: Path, version: str) -> None:
    (wheel,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=[version])
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("mmcv/_ext.py").decode()
    assert text == (REPOSITORY / "kd/models/installed/mmcv_ext.py").read_text(encoding="utf-8")


def test_a_compiled_module_precedes_the_file(tmp_path: Path) -> None:
    for name in ("_ext.py", f"_ext{EXTENSION_SUFFIXES[0]}"):
        (tmp_path / name).touch()
    spec = PathFinder.find_spec("_ext", [str(tmp_path)])
    assert spec is not None
    assert spec.origin is not None
    assert spec.origin.endswith(EXTENSION_SUFFIXES[0])
