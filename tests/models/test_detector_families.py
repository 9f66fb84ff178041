"""Every detector family makes an optimizer step and predicts with the operators of ``kd.models``.

First mmdet's published configurations, then composed ones, on every kind of backbone.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.models.mmcv_ops import install

install()

import mmdet  # noqa: E402
import mmdet.models  # noqa: E402
from mmdet.models.losses.focal_loss import (  # noqa: E402
    py_sigmoid_focal_loss,
    sigmoid_focal_loss,
)
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.config import Config, ConfigDict  # noqa: E402
from mmengine.logging import MessageHub  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from torchvision.ops import box_iou  # noqa: E402

from kd.config.compose import detector_model  # noqa: E402
from kd.config.library import Library  # noqa: E402
from kd.config.parts import Scale  # noqa: E402
from kd.models.build import build_model  # noqa: E402
from tests.support.paths import CONFIGS as OURS  # noqa: E402

torch.set_num_threads(1)

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
FAMILIES = {
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "tood": "tood/tood_r50_fpn_1x_coco.py",
    "vfnet": "vfnet/vfnet_r50_fpn_1x_coco.py",
    "ddod": "ddod/ddod_r50_fpn_1x_coco.py",
    "reppoints": "reppoints/reppoints-moment_r50_fpn_1x_coco.py",
    "reppoints-gn": "reppoints/reppoints-moment_r50_fpn-gn_head-gn_1x_coco.py",
    "faster-rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "cascade-rcnn": "cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py",
    "ssd300": "ssd/ssd300_coco.py",
    "yolov3": "yolo/yolov3_d53_8xb8-320-273e_coco.py",
    "rtmdet": "rtmdet/rtmdet_tiny_8xb32-300e_coco.py",
    "yolox": "yolox/yolox_tiny_8xb8-300e_coco.py",
}
CLASSES = 3
WIDTH = 32


def narrow(model: ConfigDict) -> None:
    """Turn a ResNet-50 FPN model into a ResNet-18 one of a few channels, in place."""
    model.backbone.update(depth=18, base_channels=8)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=WIDTH)
    if "rpn_head" not in model:
        model.bbox_head.update(in_channels=WIDTH, feat_channels=WIDTH, stacked_convs=1)
        if "point_feat_channels" in model.bbox_head:
            model.bbox_head.point_feat_channels = WIDTH
        return
    model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    model.roi_head.bbox_roi_extractor.out_channels = WIDTH
    for head in box_heads(model):
        head.update(in_channels=WIDTH, fc_out_channels=WIDTH)


def box_heads(model: ConfigDict) -> list[ConfigDict]:
    heads = model.roi_head.bbox_head if "roi_head" in model else model.bbox_head
    return heads if isinstance(heads, list) else [heads]


def build(family: str) -> tuple[torch.nn.Module, ConfigDict]:
    """Return a small random detector and its test settings, without a score threshold."""
    model = Config.fromfile(CONFIGS / FAMILIES[family]).model
    model.backbone.init_cfg = None
    model.data_preprocessor.batch_augments = None  # YOLOX: it needs the step of a runner
    if model.backbone.type == "ResNet":
        narrow(model)
    for head in box_heads(model):
        head.num_classes = CLASSES
    final = model.test_cfg.get("rcnn", model.test_cfg)
    final.score_thr = 0.0
    detector = build_model(model)
    detector.init_weights()
    widen(detector)
    if family == "ssd300":  # mmdet 3.3.0 reads this in predict but SSDHead has none.
        detector.bbox_head.loss_cls = None
    return detector, final


def widen(detector: torch.nn.Module) -> None:
    """Add 2 to RTMDet's distances, in strides: half of the random ones are negative."""
    for layer in getattr(getattr(detector, "bbox_head", None), "rtm_reg", ()):
        layer.bias.data.fill_(2.0)


def batch(side: int) -> dict[str, list]:
    """Return two random images, one with two boxes and one without an object."""
    images = [torch.randint(0, 256, (3, side, side), dtype=torch.uint8) for _ in range(2)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 44.0], [20.0, 10.0, 60.0, 50.0]])
    return {
        "inputs": images,
        "data_samples": [sample(side, boxes), sample(side, boxes[:0])],
    }


def sample(side: int, boxes: torch.Tensor) -> DetDataSample:
    size = (side, side)
    annotated = DetDataSample(
        metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
    )
    annotated.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)))
    return annotated


@pytest.mark.parametrize("family", FAMILIES)
def test_one_step_and_a_prediction(family):
    torch.manual_seed(0)
    detector, settings = build(family)
    data = batch(300 if family == "ssd300" else 64)
    before = {name: value.detach().clone() for name, value in detector.named_parameters()}
    optimizer = OptimWrapper(torch.optim.SGD(detector.parameters(), lr=1e-4))
    MessageHub.get_current_instance().update_info("epoch", 0)  # mmdet's TOOD reads it
    losses = detector.train().train_step(data, optimizer)
    assert all(value.isfinite() for value in losses.values())
    assert losses["loss"] > 0
    trained = {n for n, p in detector.named_parameters() if not torch.equal(p, before[n])}
    assert all(value.isfinite().all() for value in detector.parameters())
    for part in ("backbone", "neck", "head"):
        assert any(part in name for name in trained)
    with torch.no_grad():
        results = detector.eval().test_step(data)
    for result in results:
        check_prediction(result.pred_instances, settings)


def check_prediction(instances: InstanceData, settings: ConfigDict, classes: int = CLASSES) -> None:
    """Assert that the boxes of one image are a result of non-maximum suppression."""
    assert 0 < len(instances) <= settings.get("max_per_img", len(instances))  # YOLOX has no limit
    assert instances.bboxes.isfinite().all()
    assert (instances.scores[:-1] >= instances.scores[1:]).all()
    assert 0 <= instances.labels.min() <= instances.labels.max() < classes
    for label in instances.labels.unique():
        overlaps = box_iou(*[instances.bboxes[instances.labels == label]] * 2).fill_diagonal_(0)
        overlaps = overlaps.nan_to_num(0)  # of two boxes without area
        assert overlaps.max() <= settings.nms.iou_threshold + 1e-3


def test_the_focal_loss_mmdet_uses_on_cuda_equals_the_one_it_uses_on_cpu():
    torch.manual_seed(0)
    logits = torch.randn(50, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 6, (50,))  # Class 5 is background.
    weight = torch.rand(50, dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(target, 6)[:, :5]
    served = sigmoid_focal_loss(logits, target, weight, avg_factor=7.0)
    plain = py_sigmoid_focal_loss(logits, one_hot, weight, avg_factor=7.0)
    torch.testing.assert_close(served, plain)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (served, plain)]
    torch.testing.assert_close(*gradients)


# --- Composed detectors --------------------------------------------------------------------

COMPOSED = {  # the backbone of mmdet's own configuration
    "retinanet": "r50",
    "gfl": "r50",
    "fcos": "r50",
    "atss": "r50",
    "tood": "r50",
    "vfnet": "r50",
    "ddod": "r50",
    "reppoints": "r50",
    "reppoints_gn": "r50",
    "faster_rcnn": "r50",
    "cascade_rcnn": "r50",
    "ssd300": "vgg16-fc7",
    "ssd512": "vgg16-fc7",
    "yolov3": "darknet53",
    "rtmdet": "cspnext-tiny",
    "yolox": "csp-darknet-tiny",
}
BACKBONES = [
    *("r18-w0.125", "mbv2-w0.25", "vgg16-w0.0625", "vgg16-fc7-w0.0625", "darknet53-w0.0625"),
    "swin-t-w0.125",
    *("cspnext-tiny-w0.25", "csp-darknet-tiny-w0.25"),
]
PAIRS = [(detector, backbone) for detector in COMPOSED for backbone in BACKBONES]
for name in ("yolov3", "rtmdet", "yolox"):  # they read a map at stride 32
    PAIRS.remove((name, "vgg16-fc7-w0.0625"))


def losses_of(detector: Any, data: dict[str, Any]) -> Any:
    total, logged = detector.parse_losses(detector(**data, mode="loss"))
    assert all(value.isfinite() for value in logged.values())
    return total


def without_gradient(detector: torch.nn.Module) -> list[str]:
    trained = {
        name: parameter
        for name, parameter in detector.named_parameters()
        if parameter.requires_grad
    }
    assert trained
    return [name for name, parameter in trained.items() if parameter.grad is None]


@pytest.mark.parametrize(("detector", "backbone"), PAIRS)
def test_a_step_reaches_every_parameter(
    build: Callable[..., Any], images: Callable[..., Any], detector: str, backbone: str
) -> None:
    network = composed(build, detector, backbone)
    loss = losses_of(network, images((3, 0)))
    assert loss > 0
    loss.backward()
    assert without_gradient(network) == []
    assert all(
        parameter.grad.isfinite().all()
        for parameter in network.parameters()
        if parameter.requires_grad
    )


@pytest.mark.parametrize("detector", COMPOSED)
def test_a_step_without_objects_reaches_every_parameter(
    build: Callable[..., Any], images: Callable[..., Any], detector: str
) -> None:
    network = build(detector)
    losses_of(network, images((0, 0))).backward()
    assert without_gradient(network) == []


@pytest.mark.parametrize("detector", COMPOSED)
def test_a_few_steps_on_one_batch_lower_the_loss(
    build: Callable[..., Any], images: Callable[..., Any], detector: str
) -> None:
    network, data = build(detector), images()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        torch.manual_seed(0)  # RoIs are sampled at random
        losses.append(losses_of(network, data))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(("detector", "backbone"), PAIRS)
def test_weights_reload_into_a_detector_that_predicts_the_same(
    build: Callable[..., Any], images: Callable[..., Any], detector: str, backbone: str
) -> None:
    network, other = (composed(build, detector, backbone, seed) for seed in (0, 1))
    settings = network.test_cfg.get("rcnn", network.test_cfg)
    for model in (network, other):
        model.test_cfg.get("rcnn", model.test_cfg).score_thr = 0.0
        model.eval()
    other.load_state_dict(network.state_dict())
    data = images((2, 0))
    with torch.no_grad():
        results, other_results = (model(**data, mode="predict") for model in (network, other))
    for ours, theirs in zip(results, other_results, strict=True):
        check_prediction(ours.pred_instances, settings, classes=8)
        assert torch.equal(ours.pred_instances.bboxes, theirs.pred_instances.bboxes)
        assert torch.equal(ours.pred_instances.scores, theirs.pred_instances.scores)


def composed(build: Callable[..., Any], detector: str, backbone: str, seed: int = 0) -> Any:
    network = build(detector, seed, backbone=backbone)
    widen(network)
    final = network.test_cfg.get("rcnn", network.test_cfg)
    if "max_per_img" in final:  # YOLOX has no limit
        final.max_per_img = 20
    return network


def test_the_scale_of_ssds_first_map_is_20(build: Callable[..., Any]) -> None:
    """Without ``init_weights``, the weight of mmdet's L2Norm is uninitialized memory."""
    assert (build("ssd300").neck.l2_norm.weight == 20).all()


@pytest.fixture
def uninitialized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip random initialization, so that full-size networks are built quickly."""
    for name in ("kaiming_uniform_", "uniform_", "normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.parametrize("detector", COMPOSED)
def test_a_full_size_detector_matches_mmdets(
    quiet_mmdet: None, uninitialized: None, detector: str
) -> None:
    """Both have the same tensors, priors and settings of training and prediction."""
    name = {"ssd512": "ssd/ssd512_coco.py"}.get(detector) or FAMILIES[detector.replace("_", "-")]
    published = Config.fromfile(CONFIGS / name).model
    published.backbone.init_cfg = None
    library, scale = Library(OURS), Scale(title="as published")
    model = detector_model(detector, COMPOSED[detector], 80, "scratch", scale, library, "tests")
    ours, theirs = (build_model(config) for config in (model, published))
    shapes = [
        {key: config.shape for key, config in net.state_dict().items()} for net in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert ours.test_cfg == theirs.test_cfg
    assert ours.train_cfg == theirs.train_cfg
    assert repr(priors(ours)) == repr(priors(theirs))


def priors(detector: Any) -> Any:
    head = getattr(detector, "rpn_head", None) or detector.bbox_head
    generator = head.prior_generator
    return getattr(generator, "base_anchors", generator.strides)
