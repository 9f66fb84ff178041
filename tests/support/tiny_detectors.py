"""Settings that make detectors tiny, and weights for them."""

from pathlib import Path
from typing import Any

CLASSES = 8
BACKBONE = "r18-w0.125"
NECKS = {  # GFL, FCOS, ATSS and their relatives normalize groups of 32 channels
    "retinanet": 16, "retinanet-wide": 24, "gfl": 32, "fcos": 32, "atss": 32, "faster_rcnn": 16,
    "cascade_rcnn": 16, "ssd300": 16, "ssd512": 16, "yolov3": 16, "rtmdet": 16, "yolox": 16,
    "vfnet": 64, "tood": 64, "ddod": 64, "reppoints": 16,
    "reppoints_gn": 64,
}  # fmt: skip
"""Channels of the necks of tiny detectors."""


def tiny_settings(family: str) -> dict[str, Any]:
    """Return the settings of a scale that make a detector tiny, also for 40 x 48 pixels."""
    neck = NECKS[family]
    if family.endswith("rcnn"):
        return _two_stage(neck)
    if family.startswith("ssd"):
        return _ssd(neck, 2 if family == "ssd300" else 3)
    if family == "yolov3":
        widths = [neck] * 3
        anchors = {"base_sizes": [[[32, 24], [24, 32]], [[16, 16], [20, 12]], [[8, 8], [12, 10]]]}
        head = {"in_channels": widths, "out_channels": widths, "anchor_generator": anchors}
        return {"neck": {"out_channels": widths}, "bbox_head": head}
    if family in ("rtmdet", "yolox"):
        head = {"in_channels": neck, "feat_channels": neck, "stacked_convs": 1}
        return {"neck": {"out_channels": neck, "num_csp_blocks": 1}, "bbox_head": head}
    ranges = {"regress_ranges": [[-1, 16], [16, 32], [32, 64], [64, 128], [128, 999]]}
    reach: dict[str, Any]
    if family == "fcos":
        reach = ranges
    elif family.startswith("reppoints"):
        reach = {"point_feat_channels": neck}
    elif family == "vfnet":
        reach = ranges | {"anchor_generator": {"octave_base_scale": 4}}
    else:
        reach = {"anchor_generator": {"octave_base_scale": 2 if "retinanet" in family else 4}}
    head = {"in_channels": neck, "feat_channels": neck, "stacked_convs": 1, **reach}
    return {"neck": {"out_channels": neck}, "bbox_head": head}


def _two_stage(neck: int) -> dict[str, Any]:
    proposals = {"nms_pre": 100, "max_per_img": 50}
    anchors = {"scales": [2]}
    return {
        "neck": {"out_channels": neck},
        "rpn_head": {"in_channels": neck, "feat_channels": neck, "anchor_generator": anchors},
        "roi_head": {
            "bbox_roi_extractor": {"out_channels": neck},
            "bbox_head": {"in_channels": neck, "fc_out_channels": 2 * neck},
        },
        "train_cfg": {"rpn_proposal": proposals, "rcnn": {"sampler": {"num": 32}}},
        "test_cfg": {"rpn": proposals},
    }


def _ssd(neck: int, extra: int) -> dict[str, Any]:
    levels, sizes = 2 + extra, [6, 12, 20, 32, 48, 64]
    anchors = {
        "strides": [8, 16, 32, 64, 128][:levels],
        "ratios": [[2]] * levels,
        "min_sizes": sizes[:levels],
        "max_sizes": sizes[1 : levels + 1],
    }
    layers = {"level_strides": [2] * extra, "level_paddings": [1] * extra, "last_kernel_size": 3}
    return {
        "neck": {"out_channels": [neck] * extra, **layers},
        "bbox_head": {"anchor_generator": anchors},
    }


def save_random_weights(model: dict[str, Any], directory: Path) -> None:
    """Build a detector from mmdet's model dict and save its random weights for a run."""
    import torch

    from kd.config.compose import WEIGHTS
    from kd.models import weights
    from kd.models.build import build_model

    torch.manual_seed(123)
    detector = build_model(model)
    detector.init_weights()
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if "head" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # predictions that vary
        if model["type"] == "FCOS":
            detector.bbox_head.conv_reg.bias += 2.5  # boxes of several pixels, not of one
    weights.save(directory / WEIGHTS, {"state_dict": detector.state_dict()})
