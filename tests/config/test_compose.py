"""Composition of a detector with its backbone, classes and images, and changes by a scale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.common.errors import UserError
from kd.config.compose import compose, detector_model, merge
from kd.config.library import Library
from kd.config.parts import Detector, Scale
from kd.config.pipelines import PREPROCESSOR
from kd.config.run import Run
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project

DETECTORS = Library(CONFIGS).names("detectors")


def model(detector: str, backbone: str = "r50", init: str = "scratch", **scale: Any) -> Any:
    """Return mmdet's model dict of a detector for 7 classes."""
    test_scale = Scale(title="test", **scale)
    return detector_model(detector, backbone, 7, init, test_scale, Library(CONFIGS), "test")


# --- Composition ---------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_head_that_predicts_classes_has_their_number(detector):
    config = model(detector)
    heads = config["roi_head"]["bbox_head"] if "roi_head" in config else config["bbox_head"]
    for head in heads if isinstance(heads, list) else [heads]:
        assert head["num_classes"] == 7
    assert "num_classes" not in config.get("rpn_head", {})


def test_a_cascade_has_three_heads_with_their_deviations():
    heads = model("cascade_rcnn")["roi_head"]["bbox_head"]
    deviations = [head["bbox_coder"]["target_stds"][0] for head in heads]
    assert deviations == [0.1, 0.05, 0.033]


@pytest.mark.parametrize(
    ("detector", "backbone", "indices", "channels"),
    [
        ("fcos", "r50", [0, 1, 2, 3], [256, 512, 1024, 2048]),
        ("yolov3", "r50", [1, 2, 3], [2048, 1024, 512]),
        ("yolov3", "darknet53-w0.5", [3, 4, 5], [512, 256, 128]),
        ("ssd300", "r50-w0.25", [1, 2], [128, 256]),
        ("ssd300", "mbv2", [2, 4], [32, 96]),
        ("ssd512", "vgg16-fc7", [22, 34], [512, 1024]),
    ],
)
def test_a_neck_reads_the_maps_that_its_detector_names(detector, backbone, indices, channels):
    config = model(detector, backbone)
    assert config["backbone"]["out_indices"] == indices
    assert config["neck"]["in_channels"] == channels


def test_the_head_of_ssd_reads_the_maps_of_the_backbone_and_then_those_of_the_neck():
    config = model("ssd300", "vgg16-fc7-w0.5")
    assert config["neck"]["out_channels"] == [256, 512, 512, 256, 256, 256]
    assert config["bbox_head"]["in_channels"] == config["neck"]["out_channels"]


def test_imagenet_weights_are_converted_to_the_normalization_of_a_detector():
    assert model("retinanet")["data_preprocessor"] == PREPROCESSOR
    assert "mean" not in model("retinanet", init="imagenet")["backbone"]["init_cfg"]
    ssd, yolo = (model(name, init="imagenet") for name in ("ssd300", "yolov3"))
    assert ssd["data_preprocessor"] == {**PREPROCESSOR, "std": [1.0] * 3, "pad_size_divisor": 1}
    assert ssd["backbone"]["init_cfg"]["std"] == [1.0] * 3
    assert "mean" not in ssd["backbone"]["init_cfg"]
    assert yolo["data_preprocessor"] == {**PREPROCESSOR, "mean": [0.0] * 3, "std": [255.0] * 3}
    assert yolo["backbone"]["init_cfg"]["mean"] == [0.0] * 3


CAFFE = {"mean": [103.53, 116.28, 123.675], "std": [1.0, 1.0, 1.0], "bgr_to_rgb": False}
"""Normalization of caffe's ResNets."""


@pytest.mark.parametrize(
    ("detector", "changes"),
    [
        ("retinanet", {}),
        ("fcos", {"mean": [102.9801, 115.9465, 122.7717]}),
        ("rtmdet", {"std": [57.375, 57.12, 58.395]}),
        ("yolox", {"mean": [0.0, 0.0, 0.0]}),
    ],
)
def test_images_have_the_normalization_of_the_backbone_unless_the_detector_has_one(
    detector, changes
):
    composed = model(detector, "r50-caffe", "imagenet")
    expected = PREPROCESSOR | CAFFE | changes
    assert composed["data_preprocessor"] == expected
    weights = composed["backbone"]["init_cfg"]
    assert weights["trained_with"] == CAFFE
    assert weights["bgr"]
    assert (weights["mean"], weights["std"]) == (expected["mean"], expected["std"])


def test_a_caffe_backbone_is_frozen_as_mmdets_and_trained_under_syncbn():
    frozen = model("retinanet", "r50-caffe", "imagenet")["backbone"]
    assert (frozen["style"], frozen["norm_eval"], frozen["frozen_stages"]) == ("caffe", True, 1)
    assert frozen["norm_cfg"] == {"type": "BN", "requires_grad": False}
    library, scale = Library(CONFIGS), Library(CONFIGS).scale("paper", "test")
    run = Run("paper", "voc0712", "voc12-syncbn-clip", "retinanet", "r50-caffe", seed=0)
    trained = compose(run, {}, scale, library, "test")["model"]["backbone"]
    assert trained["norm_cfg"] == {"type": "SyncBN", "requires_grad": True}


def test_a_shrunk_image_is_surrounded_by_the_mean_of_its_channels():
    """Expand reads an RGB mean; the normalization of caffe's images is BGR."""
    library, scale = Library(CONFIGS), Library(CONFIGS).scale("paper", "test")
    run = Run("paper", "coco2017", "ssd", "ssd300", "r50-caffe", seed=0)
    composed = compose(run, {}, scale, library, "test")
    pipeline = composed["train_dataloader"]["dataset"]["dataset"]["pipeline"]
    (expand,) = (step for step in pipeline if step["type"] == "Expand")
    assert (expand["mean"], expand["to_rgb"]) == ([123.675, 116.28, 103.53], True)
    assert composed["model"]["data_preprocessor"]["mean"] == [103.53, 116.28, 123.675]


def test_darknet_has_no_imagenet_weights():
    with pytest.raises(UserError, match=r"'darknet53' has no ImageNet weights; use 'init: scr"):
        model("yolov3", "darknet53", init="imagenet")


def test_a_block_for_a_list_of_blocks_changes_each():
    changes = {"roi_head": {"bbox_head": {"fc_out_channels": 32}}}
    heads = model("cascade_rcnn", detectors={"cascade_rcnn": changes})["roi_head"]["bbox_head"]
    assert [head["fc_out_channels"] for head in heads] == [32, 32, 32]
    assert [head["bbox_coder"]["target_stds"][0] for head in heads] == [0.1, 0.05, 0.033]


def test_a_block_takes_the_place_of_a_list_of_numbers():
    assert merge({"sizes": [1, 2]}, {"sizes": {"a": 1}}) == {"sizes": {"a": 1}}


def test_an_unknown_key_within_a_list_of_blocks_is_refused():
    with pytest.raises(UserError, match=r"scale\.heads: no setting 'wdith'.*'width'\?"):
        merge({"heads": [{"width": 1}, {"width": 2}]}, {"heads": {"wdith": 3}}, "scale")


# --- Scales --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "mini", "laptop", "paper"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_the_size_of_a_level_follows_from_its_stride(quiet_mmdet, detector, scale):
    """At every scale the cells of a map cover the image, with at most one cell more or less."""
    import torch

    from kd.models.build import build_model

    library = Library(CONFIGS)
    part, sizes = library.detector(detector, "test"), library.scale(scale, "test")
    config = detector_model(detector, "r18-w0.125", 8, "scratch", sizes, library, "test")
    network = build_model(config)
    network.eval()
    side = sizes.input_sizes.get(detector, part.input_size) or 128
    divisor = config["data_preprocessor"]["pad_size_divisor"]
    side = -(-side // divisor) * divisor
    with torch.no_grad():
        maps = network.extract_feat(torch.zeros(1, 3, side, side))
    head = getattr(network, "rpn_head", None) or network.bbox_head
    strides = [stride[0] for stride in head.prior_generator.strides]
    assert len(maps) == len(strides)
    for level_map, stride in zip(maps, strides, strict=True):
        assert abs(level_map.shape[2] * stride - side) < stride
    if detector.startswith("ssd"):
        assert maps[-1].shape[2] == 1


@pytest.mark.parametrize("scale", ["smoke", "mini"])
def test_small_scales_have_heads_of_few_weights(quiet_mmdet, scale):
    """A small backbone needs a small neck and head."""
    from kd.models.build import build_model

    library = Library(CONFIGS)
    for detector in DETECTORS:
        config = detector_model(
            detector, "r18-w0.125", 8, "scratch", library.scale(scale, "test"), library, "test"
        )
        network = build_model(config)
        assert sum(parameter.numel() for parameter in network.parameters()) < 5e6


# --- Mistakes ------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    return tmp_path


def composed(detector: str, scale: str = "tiny") -> Any:
    library = Library(Path("configs"))
    return detector_model(
        detector, "r18", 8, "scratch", library.scale(scale, "test"), library, "test"
    )


YOLO, SSD = "configs/detectors/yolov3.yaml", "configs/detectors/ssd300.yaml"
TINY = "configs/scales/tiny.yaml"
MISTAKES: dict[str, tuple[Callable[[], None], str, str]] = {
    "a map beyond the last": (
        lambda: edit(YOLO, maps=[4, 3, 2]),
        "yolov3",
        rf"^{YOLO}: key 'maps': no map 4 of backbone 'r18'; valid: 0 to 3$",
    ),
    "a map before the first": (
        lambda: edit(YOLO, maps=[2, 1, -1]),
        "yolov3",
        rf"^{YOLO}: key 'maps.2': must be greater than or equal to 0, not -1$",
    ),
    "a map twice": (
        lambda: edit(YOLO, maps=[2, 1, 2]),
        "yolov3",
        rf"^{YOLO}: 'maps' must list each map once, not \[2, 1, 2\]$",
    ),
    "no map": (lambda: edit(YOLO, maps=[]), "yolov3", rf"^{YOLO}: key 'maps': .*at least 1"),
    "an unknown augmentation": (
        lambda: edit(YOLO, augmentation="yolov3"),
        "yolov3",
        rf"^{YOLO}: key 'augmentation': .*'general', 'ssd', 'yolo', .*not 'yolov3'$",
    ),
    "no size to stretch images to": (
        lambda: edit(SSD, input_size=None),
        "ssd300",
        rf"^{SSD}: augmentation 'ssd' .*'input_size' must be given$",
    ),
    "a misspelt key": (
        lambda: edit(SSD, input_sise=300),
        "ssd300",
        rf"^{SSD}: unknown key 'input_sise'; did you mean 'input_size'\?",
    ),
    "a scale's size for an unknown detector": (
        lambda: edit(TINY, input_sizes={"ssd30": 64}),
        "ssd300",
        rf"^{TINY}: key 'input_sizes': no 'ssd30' in configs/detectors; did you mean 'ssd300'\?",
    ),
    "a scale's size for a detector without": (
        lambda: edit(TINY, input_sizes={"gfl": 64}),
        "gfl",
        rf"^{TINY}: key 'input_sizes': detector 'gfl' has no 'input_size'; delete its line$",
    ),
    "a scale's size of nothing": (
        lambda: edit(TINY, input_sizes={"ssd300": 0}),
        "ssd300",
        rf"^{TINY}: key 'input_sizes.ssd300': must be greater than 0, not 0$",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_error(project, mistake):
    spoil, detector, message = MISTAKES[mistake]
    spoil()
    with pytest.raises(UserError, match=message) as caught:
        composed(detector)
    assert "\n" not in str(caught.value)


def test_a_detector_of_another_name_needs_no_change_elsewhere(project):
    content = yaml.safe_load(Path(SSD).read_text())
    Detector.parse({**content, "input_size": 320}, "test")
    Path("configs/detectors/ssd320.yaml").write_text(yaml.safe_dump(content))
    assert composed("ssd320")["bbox_head"]["num_classes"] == 8
