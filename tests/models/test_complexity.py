"""Counts of detectors equal published ones and sums by hand."""

from typing import Any

import pytest
import torch

import kd.runtime  # noqa: F401
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.models.build import build_model
from kd.models.complexity import complexity, counter
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)


def model(detector: str, backbone: str, scale: str, classes: int) -> dict[str, Any]:
    small = LIBRARY.scale(scale, "test")
    return detector_model(detector, backbone, classes, "scratch", small, LIBRARY, "test")


def test_retinanet_has_the_parameters_and_flops_that_mmdet_states() -> None:
    """The user guide of mmdet 3.3.0 (useful_tools.md) states 239.32 GFLOPs and 37.74 M.

    Its tool also counts the multiply-adds of normalization, and leaves out frozen weights.
    """
    counts = complexity(model("retinanet", "r50", "paper", 80), 1280, 800)
    assert counts.multiply_adds == pytest.approx(239.32e9, rel=0.005)
    stem_and_first_stage = 225_344
    assert counts.parameters - stem_and_first_stage == pytest.approx(37.74e6, abs=0.005e6)
    at_1333 = complexity(model("retinanet", "r50", "paper", 80), 1333, 800)
    assert at_1333.multiply_adds == pytest.approx(counts.multiply_adds * 1344 / 1280, rel=0.002)


def test_a_two_stage_detector_runs_its_head_on_all_proposals() -> None:
    """Its second stage is two matrix products and two outputs for each of 1,000 proposals."""
    counts = complexity(model("faster_rcnn", "r50", "paper", 80), 1280, 800)
    head = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 320
    fewer = model("faster_rcnn", "r50", "paper", 80)
    fewer["test_cfg"]["rpn"]["max_per_img"] = 300
    difference = counts.multiply_adds - complexity(fewer, 1280, 800).multiply_adds
    assert difference == 700 * head


def test_a_miniature_equals_a_sum_by_hand() -> None:
    """RetinaNet with a ResNet-18 of half width and a neck of 64 channels on 128 x 128 pixels."""
    counts = complexity(model("retinanet", "r18-w0.5", "smoke", 8), 128, 128)
    # Input channels, output channels, kernel, and cells of the output of each convolution.
    backbone = [(3, 32, 7, 64**2), *[(32, 32, 3, 32**2)] * 4]
    for width, side in ((64, 16), (128, 8), (256, 4)):
        backbone += [(width // 2, width, 3, side**2), (width // 2, width, 1, side**2)]
        backbone += [(width, width, 3, side**2)] * 3
    levels = (16**2, 8**2, 4**2)
    neck = [(64 << i, 64, 1, cells) for i, cells in enumerate(levels)]
    neck += [(64, 64, 3, cells) for cells in levels]
    priors = 9
    head = [(64, out, 3, sum(levels)) for out in (64, 64, priors * 8, priors * 4)]
    layers = [*backbone, *neck, *head]
    assert counts.multiply_adds == sum(i * o * k * k * cells for i, o, k, cells in layers)
    kernels = sum(i * o * k * k for i, o, k, _ in layers)
    norms = sum(2 * o for _, o, _, _ in backbone)
    biases = sum(o for _, o, _, _ in (*neck, *head))
    assert counts.parameters == kernels + norms + biases
    counters = 8 * len(backbone)  # batches that a normalization has seen, int64
    assert counts.weight_bytes == 4 * (counts.parameters + norms) + counters


def test_every_detector_and_backbone_states_its_flops() -> None:
    """Without them the time of a training is unknown until one has finished."""
    parts = [
        *(LIBRARY.detector(name, "test").flops for name in LIBRARY.names("detectors")),
        *(LIBRARY.backbone(name, "test")[0].gflops for name in LIBRARY.names("backbones")),
    ]
    assert all(parts)


@pytest.mark.parametrize("detector", LIBRARY.names("detectors"))
def test_counts_are_near_the_stated_ones_of_the_configuration(detector: str) -> None:
    flops = LIBRARY.detector(detector, "test").flops
    assert flops is not None
    counts = complexity(model(detector, flops.backbone, "paper", 80), *flops.size)
    assert counts.multiply_adds == pytest.approx(flops.gflops * 1e9, rel=0.05)


def test_the_counted_network_is_the_built_one() -> None:
    config = model("retinanet", "r18-w0.25", "smoke", 8)
    built = build_model(config)
    assert complexity(config, 128, 128).parameters == sum(p.numel() for p in built.parameters())


def test_a_deformable_convolution_counts_as_one_without_offsets() -> None:
    from mmcv.ops import DeformConv2d

    with torch.device("meta"):
        layer = DeformConv2d(4, 8, 3, padding=1, groups=2)
    images, offsets = (torch.empty(2, width, 7, 5, device="meta") for width in (4, 18))
    with torch.no_grad(), counter() as counts:
        layer(images, offsets)
    assert counts.get_total_flops() == 2 * (2 * 8 * 7 * 5) * (2 * 9)
