"""Published teachers: mmdet's own configurations have the weights of the composed detectors."""

from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

from kd.common.errors import UserError
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.models import weights
from kd.models.build import build_model
from kd.observers.base import Batch, channels_of
from kd.observers.heads import OBSERVABLE
from tests.support.paths import CONFIGS

FILES = Path(mmdet.__file__).parent / ".mim" / "configs"
MASKS = ["roi_head.mask_head."]
TEACHERS = {
    "swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco": ("faster_rcnn", "swin-s", MASKS),
    "swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco": ("faster_rcnn", "swin-t", MASKS),
    "dcn/cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco": (
        *("cascade_rcnn", "x101-32x4d-dconv"),
        MASKS,
    ),
    "swin/retinanet_swin-t-p4-w7_fpn_1x_coco": ("retinanet", "swin-t", []),
    "retinanet/retinanet_x101-64x4d_fpn_1x_coco": ("retinanet", "x101-64x4d", []),
    "fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco": ("fcos", "x101-64x4d", []),
    "gfl/gfl_r101-dconv-c3-c5_fpn_ms-2x_coco": ("gfl", "r101-dconv", []),
    "dino/dino-4scale_r50_8xb2-12e_coco": ("dino", "r50", []),
}
"""Detector, backbone and left-out weights here, by mmdet's configuration."""


def composed(detector: str, backbone: str, classes: int = 80, **changes: Any) -> dict[str, Any]:
    scale = Scale(title="none", detectors={detector: changes} if changes else {})
    return detector_model(detector, backbone, classes, "scratch", scale, Library(CONFIGS), "test")


@pytest.fixture
def uninitialized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no initial weights, of which large networks have many."""
    for name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "trunc_normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.parametrize("name", TEACHERS)
def test_published_weights_of_a_teacher_fit(
    quiet_mmdet: None, uninitialized: None, name: str
) -> None:
    detector, backbone, without = TEACHERS[name]
    published = Config.fromfile(FILES / f"{name}.py").model
    published.backbone.init_cfg = None
    theirs = build_model(published).state_dict()
    ours = build_model(composed(detector, backbone)).state_dict()
    shapes = {
        key: value.shape
        for key, value in theirs.items()
        if not key.startswith(tuple(without)) or not without
    }
    assert shapes == {key: value.shape for key, value in ours.items()}
    assert bool(without) == (len(shapes) < len(theirs))


def test_weights_that_are_left_out_are_not_loaded(tmp_path: Path, quiet_mmdet: None) -> None:
    model, path = nn.Linear(2, 2), tmp_path / "weights.pth"
    torch.save({**model.state_dict(), "mask.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"unexpected: mask\.weight"):
        weights.load_strictly(model, path)
    with pytest.raises(UserError, match=r"no weights begin with 'masks\.'"):
        weights.load_strictly(model, path, ["masks."])
    weights.load_strictly(model, path, ["mask."])


def test_the_neck_of_dino_is_read(quiet_mmdet: None) -> None:
    from kd.observers import observe

    torch.manual_seed(0)
    detector = build_model(composed("dino", "r18-w0.125", 8)).requires_grad_(False).eval()
    detector.init_weights()
    assert channels_of(detector) == ([256] * 4, [16, 32, 64], (8, 16, 32, 64))
    images = torch.randn(2, 3, 64, 96)
    observation = observe(detector, Batch(images, []), frozen=True)
    assert [tuple(level.shape) for level in observation.neck] == [
        *((2, 256, 8, 12), (2, 256, 4, 6), (2, 256, 2, 3), (2, 256, 1, 2)),
    ]
    assert observation.neck[0].std() > 0.1 and OBSERVABLE[detector.observer] == {"neck", "stages"}


def test_dino_predicts(quiet_mmdet: None) -> None:
    torch.manual_seed(0)
    detector = build_model(composed("dino", "r18-w0.125", 8, num_queries=50)).eval()
    detector.init_weights()
    sample = DetDataSample(
        metainfo={
            "img_shape": (64, 96),
            "batch_input_shape": (64, 96),
            "ori_shape": (64, 96),
            "scale_factor": (1.0, 1.0),
        }
    )
    with torch.no_grad():
        (result,) = detector.predict(torch.randn(1, 3, 64, 96), [sample])
    boxes = result.pred_instances.bboxes
    assert 0 < len(boxes) <= 300 and boxes.isfinite().all()
