"""Backbones: their output maps, at any width, and no layer after the last map."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from kd.common.errors import UserError

PYRAMID = (4, 8, 16, 32)
STRIDES = {
    "r18-w0.125": PYRAMID,
    "r50-w0.125": PYRAMID,
    "mbv2-w0.5": PYRAMID,
    "vgg16-w0.125": PYRAMID,
    "vgg16-fc7-w0.125": PYRAMID[:3],
    "darknet53-w0.125": PYRAMID,
    "swin-t-w0.125": PYRAMID,
    "x101-32x4d-w0.25": PYRAMID,
    "cspnext-tiny-w0.25": PYRAMID,
    "csp-darknet-tiny-w0.25": PYRAMID,
}
PUBLISHED = {  # mmdet's configurations of the same networks at full width
    "vgg16-fc7": {"type": "SSDVGG", "depth": 16, "out_feature_indices": (15, 22, 34)},
    "darknet53": {"type": "Darknet", "depth": 53, "out_indices": (2, 3, 4, 5)},
    "x101-32x4d": {"type": "ResNeXt", "depth": 101, "groups": 32, "base_width": 4},
    "x101-64x4d": {"type": "ResNeXt", "depth": 101, "groups": 64, "base_width": 4},
    "x101-32x4d-dconv": {
        "type": "ResNeXt", "depth": 101, "groups": 32, "base_width": 4,
        "dcn": {"type": "DCN", "deform_groups": 1, "fallback_on_stride": False},
        "stage_with_dcn": (False, True, True, True),
    },
    "r101-dconv": {
        "type": "ResNet", "depth": 101, "stage_with_dcn": (False, True, True, True),
        "dcn": {"type": "DCN", "deform_groups": 1, "fallback_on_stride": False},
    },
    "swin-t": {  # of mmdet's RetinaNet, whose neck begins at the second map
        "type": "SwinTransformer", "depths": [2, 2, 6, 2], "out_indices": (1, 2, 3),
    },
    "swin-s": {
        "type": "SwinTransformer", "depths": [2, 2, 18, 2], "out_indices": (1, 2, 3),
    },
}  # fmt: skip


@pytest.fixture
def backbone(quiet_mmdet: None, model_config: Callable[..., Any]) -> Callable[..., nn.Module]:
    """Return a function that returns a detector's backbone with random weights."""
    from mmdet.registry import MODELS

    def built(name: str, detector: str = "retinanet") -> nn.Module:
        torch.manual_seed(0)
        network = MODELS.build(model_config(detector, backbone=name)["backbone"])
        network.init_weights()
        return network

    return built


def maps(network: nn.Module, height: int = 64, width: int = 96) -> list[torch.Tensor]:
    image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    network.eval()  # returns None in mmdet
    with torch.no_grad():
        return list(network(image))


@pytest.mark.parametrize("name", STRIDES)
def test_maps_have_the_strides_and_channels_that_the_neck_expects(backbone, model_config, name):
    outputs = maps(backbone(name))
    assert [64 // level.shape[2] for level in outputs] == list(STRIDES[name])
    assert [96 // level.shape[3] for level in outputs] == list(STRIDES[name])
    neck = model_config(backbone=name)["neck"]
    assert [level.shape[1] for level in outputs] == neck["in_channels"]
    assert all(level.isfinite().all() and level.std() > 0 for level in outputs)


@pytest.mark.parametrize(("size", "cells"), [(300, [38, 19]), (512, [64, 32])])
def test_ssd_has_the_maps_of_its_paper(backbone, size, cells):
    outputs = maps(backbone("vgg16-fc7-w0.0625", "ssd300"), size, size)
    assert [level.shape[2] for level in outputs] == cells
    assert [level.shape[1] for level in outputs] == [512 // 16, 1024 // 16]


@pytest.mark.parametrize("name", ["vgg16", "vgg16-fc7", "darknet53"])
def test_a_width_factor_divides_every_layer(model_config, quiet_mmdet, name):
    from mmdet.registry import MODELS

    with torch.device("meta"):
        full, quarter = (
            MODELS.build(model_config(backbone=backbone)["backbone"]).state_dict()
            for backbone in (name, f"{name}-w0.25")
        )
    assert full.keys() == quarter.keys()
    for key, tensor in full.items():
        sides = zip(tensor.shape[:2], quarter[key].shape[:2], strict=True)
        assert all(wide == (3 if wide == 3 else 4 * narrow) for wide, narrow in sides)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_fit_by_name(model_config, quiet_mmdet, name):
    from mmdet.registry import MODELS

    ours = MODELS.build(model_config(backbone=name)["backbone"]).state_dict()
    theirs = MODELS.build({**PUBLISHED[name]}).state_dict()
    assert list(ours) == list(theirs)
    assert all(ours[key].shape == theirs[key].shape for key in ours)


def test_fc7_equals_mmdets(model_config, quiet_mmdet):
    """VGG16 replaces mmdet's SSDVGG without deriving from it."""
    from mmdet.registry import MODELS

    torch.manual_seed(0)
    theirs = MODELS.build({**PUBLISHED["vgg16-fc7"]})
    for layer in theirs.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    ours = MODELS.build(model_config(backbone="vgg16-fc7")["backbone"])
    ours.load_state_dict(theirs.state_dict())
    for ours_map, theirs_map in zip(maps(ours, 44, 50), maps(theirs, 44, 50), strict=True):
        assert theirs_map.std() > 0.1
        torch.testing.assert_close(ours_map, theirs_map)


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("r18-w0.125", "layer3.1.bn2.bias"),
        ("mbv2-w0.25", "layer5.2.linear_conv.bn.bias"),
        ("vgg16-w0.125", "features.28.bias"),
        ("darknet53-w0.125", "conv_res_block4.res7.conv2.bn.bias"),
        ("x101-32x4d-w0.25", "layer3.22.bn3.bias"),
        ("swin-t-w0.125", "norm2.bias"),
        ("cspnext-tiny-w0.25", "stage3.1.attention.fc.bias"),
        ("csp-darknet-tiny-w0.25", "stage3.1.blocks.2.conv2.bn.bias"),
    ],
)
def test_nothing_is_built_beyond_the_last_map(backbone, name, last):
    """SSD reads the maps at strides 8 and 16."""
    network = backbone(name, "ssd300")
    assert [key for key, _ in network.named_parameters()][-1] == last
    assert [64 // level.shape[2] for level in maps(network)] == [8, 16]


def test_a_mobile_net_is_built_without_its_last_convolution(backbone):
    network = backbone("mbv2-w0.5")
    assert list(network._modules)[-1] == "layer7"
    assert len(maps(network)) == 4


@pytest.mark.parametrize(
    "name", ["r18-w0.125", "mbv2-w0.25", "darknet53-w0.125", "cspnext-tiny-w0.25"]
)
def test_frozen_stages_are_frozen(model_config, quiet_mmdet, name):
    from mmdet.registry import MODELS

    config = model_config("ssd300", backbone=name)["backbone"]
    network = MODELS.build({**config, "frozen_stages": 1})
    network.train()
    frozen = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    assert 0 < len(frozen) < len(list(network.parameters()))
    assert all(key.startswith(("conv1", "bn1", "layer1", "stem", "stage1")) for key in frozen)


# --- Swin Transformers ----------------------------------------------------------------------


def test_swin_equals_mmdets(model_config, quiet_mmdet):
    """Neither the removed layers nor normalization without weights changes a map."""
    from mmdet.registry import MODELS

    torch.manual_seed(0)
    settings = {"type": "SwinTransformer", "embed_dims": 12, "out_indices": (0, 1, 2, 3)}
    theirs = MODELS.build({**settings})
    ours = MODELS.build(model_config(backbone="swin-t-w0.125")["backbone"])
    ours.load_state_dict(theirs.state_dict(), strict=False)
    for ours_map, theirs_map in zip(maps(ours, 72, 100), maps(theirs, 72, 100), strict=True):
        assert theirs_map.std() > 0.1
        torch.testing.assert_close(ours_map, theirs_map, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("detector", "normalized"),
    [("retinanet", [1, 2, 3]), ("faster_rcnn", [0, 1, 2, 3]), ("yolov3", [1, 2, 3])],
)
def test_every_weight_of_a_swin_transformer_gets_a_gradient(backbone, detector, normalized):
    """DistributedDataParallel refuses weights without one."""
    network = backbone("swin-t-w0.125", detector)
    network.train()
    read = network(torch.randn(1, 3, 64, 96))[-len(normalized) :]
    sum(level.square().sum() for level in read).backward()
    assert not [name for name, value in network.named_parameters() if value.grad is None]
    trained = {key.partition(".")[0] for key in network.state_dict() if key.startswith("norm")}
    assert trained == {f"norm{index}" for index in normalized}


def test_a_swin_transformer_starts_from_random_weights(backbone):
    network = backbone("swin-t-w0.125")
    for name, value in network.state_dict().items():
        if name.endswith("qkv.weight"):
            assert 0.015 < value.std() < 0.025 and value.abs().max() < 2
        if name.endswith("qkv.bias") or name.endswith("norm2.bias"):
            assert not value.any()


def test_stochastic_depth_depends_on_the_seed(backbone):
    network = backbone("swin-t-w0.125")
    network.train()
    image = torch.randn(8, 3, 64, 64)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(network(image)[-1])
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_narrow_swin_transformers_have_no_imagenet_weights(model_config):
    assert model_config(backbone="swin-t", init="imagenet")["backbone"]["init_cfg"]
    with pytest.raises(
        UserError, match=r"'swin-t-w0.5' cannot use the ImageNet weights of the full"
    ):
        model_config(backbone="swin-t-w0.5", init="imagenet")


# --- Deformable convolutions ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r101-dconv-w0.125", "x101-32x4d-dconv-w0.25"])
def test_offsets_are_zero_at_first(backbone, name):
    network = backbone(name)
    offsets = [value for key, value in network.state_dict().items() if ".conv_offset." in key]
    assert len(offsets) == 2 * (4 + 23 + 3) and not any(value.any() for value in offsets)
    assert not [
        key for key in network.state_dict() if key.startswith("layer1.") and "offset" in key
    ]
