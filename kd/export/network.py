"""A detector from pixels to final detections as one network of plain tensor operations."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd.export.dense import dense_candidates
from kd.export.resizing import ResizeRule
from kd.export.selection import BatchDetections, best
from kd.export.two_stage import region_candidates

MOST_DETECTIONS = 1000
"""BatchDetections of an image where the detector sets no limit, as YOLOX."""


class ExportedDetector(nn.Module):
    """mmdet's detector with its normalization, padding and post-processing.

    Its input is what the test pipeline resized: images of one size (B, 3, H, W), red first, 0 to
    255. Boxes are in pixels of that input.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Any, rule: ResizeRule) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.rule = rule
        preprocessor = detector.data_preprocessor
        is_rgb = getattr(preprocessor, "_channel_conversion", False)
        self.channels = [0, 1, 2] if is_rgb else [2, 1, 0]
        self.divisor = preprocessor.pad_size_divisor
        self.register_buffer("mean", preprocessor.mean.reshape(1, 3, 1, 1).clone())
        self.register_buffer("std", preprocessor.std.reshape(1, 3, 1, 1).clone())

    @property
    def most_detections(self) -> int:
        """The number of rows for each image."""
        cfg = self._final_settings
        return cfg.get("max_per_img", MOST_DETECTIONS)

    def forward(self, images: Tensor) -> BatchDetections:
        """Return the detections in images (B, 3, H, W)."""
        if self.rule.is_padded:
            images = self._filled(images)
        limits = torch._shape_as_tensor(images)[[3, 2, 3, 2]].to(images.dtype)
        images = (images[:, self.channels] - self.mean) / self.std
        images = self._padded_to_divisor(images)
        maps = self.detector.extract_feat(images)
        if hasattr(self.detector, "roi_head"):
            candidates = region_candidates(self.detector, maps, limits)
        else:
            candidates = dense_candidates(self.detector.bbox_head, maps, limits)
        iou_threshold = self._final_settings["nms"]["iou_threshold"]
        return best(candidates, iou_threshold, self.most_detections)

    @property
    def _final_settings(self) -> Any:
        """The settings of the last NMS."""
        cfg = self.detector.test_cfg
        return cfg.rcnn if "rcnn" in cfg else cfg

    def _filled(self, images: Tensor) -> Tensor:
        """Return images filled up to the size of the test pipeline, on the right and below."""
        height, width = images.shape[2:]
        missing = (0, self.rule.width - width, 0, self.rule.height - height)
        return functional.pad(images, missing, value=self.rule.pad_value)

    def _padded_to_divisor(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return functional.pad(images, (0, -width % self.divisor, 0, -height % self.divisor))
