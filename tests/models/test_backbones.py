"""Backbones: their output maps, at any width, and no layer after the last map."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

PYRAMID = (4, 8, 16, 32)
STRIDES = {
    "r18-w0.125": PYRAMID,
    "r50-w0.125": PYRAMID,
    "mbv2-w0.5": PYRAMID,
    "vgg16-w0.125": PYRAMID,
    "vgg16-fc7-w0.125": PYRAMID[:3],
    "darknet53-w0.125": PYRAMID,
}
PUBLISHED = {  # mmdet's configurations of the same networks at full width
    "vgg16-fc7": {"type": "SSDVGG", "depth": 16, "out_feature_indices": (15, 22, 34)},
    "darknet53": {"type": "Darknet", "depth": 53, "out_indices": (2, 3, 4, 5)},
}


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

    with torch.device("meta"):
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


@pytest.mark.parametrize("name", ["r18-w0.125", "mbv2-w0.25", "darknet53-w0.125"])
def test_frozen_stages_are_frozen(model_config, quiet_mmdet, name):
    from mmdet.registry import MODELS

    config = model_config("ssd300", backbone=name)["backbone"]
    network = MODELS.build({**config, "frozen_stages": 1})
    network.train()
    frozen = [key for key, parameter in network.named_parameters() if not parameter.requires_grad]
    assert 0 < len(frozen) < len(list(network.parameters()))
    assert all(key.startswith(("conv1", "bn1", "layer1")) for key in frozen)
