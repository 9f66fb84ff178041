"""FLOPs of runs: their number of images, and giga multiply-adds for each image."""

from functools import cache
from typing import Any, NamedTuple

from kd.common.errors import UserError
from kd.common.results import RESULTS
from kd.config.compose import merge
from kd.config.library import Library
from kd.config.parts import Detector
from kd.config.run import AnyRun, ClassifierRun, Run
from kd.data.check_report import read_report
from kd.data.readers import read_split

BACKWARD_PASSES = 2  # the gradients of weights and of inputs each cost as much as a forward pass
OBJECTS_PER_IMAGE = 7  # COCO's mean, for data sets whose objects have not been counted
REFERENCE_PIXELS = 224 * 224  # the image size for which multiply-adds of backbones are published
WHERE = "the estimate of a run's time"


class SplitSizes(NamedTuple):
    """Number of images in both splits of a data set, and of objects in the training split."""

    train_images: int
    test_images: int
    train_objects: int


PUBLISHED = {
    "coco2017": SplitSizes(118_287, 5_000, 860_000),
    "voc0712": SplitSizes(16_551, 4_952, 40_058),
}
"""Sizes of data sets that may be absent when a plan is made."""


class RunFlops:
    """Images and giga multiply-adds of runs; None if a part does not state its FLOPs."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.split_sizes = cache(self._split_sizes)

    def training_images(self, run: AnyRun) -> int | None:
        """Return the number of images of a training: epochs times images (crops: objects)."""
        if run.composed.published_checkpoint:
            return 0
        sizes = self.split_sizes(run.dataset)
        if sizes is None:
            return None
        images = sizes.train_images if isinstance(run, Run) else sizes.train_objects
        return run.composed.epochs * images

    def test_images(self, run: AnyRun) -> int | None:
        """Return the number of images (crops) of the test split."""
        sizes = self.split_sizes(run.dataset)
        if sizes is None or isinstance(run, Run):
            return sizes and sizes.test_images
        return sizes.train_objects * sizes.test_images // sizes.train_images

    def inference(self, run: AnyRun) -> float | None:
        """Return the giga multiply-adds of predicting an image."""
        if isinstance(run, ClassifierRun):
            return self._classifier(run)
        return self._detector(run)

    def training(self, run: AnyRun) -> float | None:
        """Return the giga multiply-adds of training on an image; teachers run forward only."""
        student = self.inference(run)
        if student is None:
            return None
        teachers: list[float | None] = []
        if isinstance(run, Run) and run.teacher:
            teachers.append(self._detector(run.teacher))
        if isinstance(run, Run) and run.classifier:
            per_crop = self._classifier(run.classifier)
            teachers.append(per_crop and OBJECTS_PER_IMAGE * per_crop)
        if None in teachers:
            return None
        return student * (1 + BACKWARD_PASSES) + sum(filter(None, teachers))

    def _classifier(self, run: ClassifierRun) -> float | None:
        part = self.library.classifier(run.classifier, WHERE)
        return part.gflops and part.gflops * part.size**2 / REFERENCE_PIXELS

    def _detector(self, run: Run) -> float | None:
        part = self.library.detector(run.detector, WHERE)
        backbone, width = self.library.backbone(run.student, WHERE)
        neck_and_head = self._neck_and_head(part)
        if neck_and_head is None or backbone.gflops is None:
            return None
        # A neck of half the width, and a head on it, compute a quarter.
        changes = self.library.scale(run.scale, WHERE).detectors.get(run.detector, {})
        neck_width = _neck_channels(merge(part.model, changes)) / _neck_channels(part.model)
        per_pixel = backbone.gflops * width**2 / REFERENCE_PIXELS + neck_and_head * neck_width**2
        return per_pixel * self._pixels(run, part)

    def _neck_and_head(self, part: Detector) -> float | None:
        """Return giga multiply-adds for a pixel: the published total without its backbone."""
        if part.flops is None:
            return None
        backbone, _ = self.library.backbone(part.flops.backbone, WHERE)
        pixels = part.flops.size[0] * part.flops.size[1]
        return backbone.gflops and part.flops.gflops / pixels - backbone.gflops / REFERENCE_PIXELS

    def _pixels(self, run: Run, part: Detector) -> float:
        """Return the pixels of an image: 4:3 for photographs, a square for generated images."""
        side = self.library.scale(run.scale, WHERE).input_sizes.get(run.detector, part.input_size)
        entry = self.library.dataset(run.dataset, WHERE)
        width, height = (side, side) if side else entry.image_size
        if side or entry.generate:
            return min(width, height) ** 2
        return min(height, width * 3 / 4) ** 2 * 4 / 3

    def _split_sizes(self, dataset: str) -> SplitSizes | None:
        report = RESULTS / "checks" / f"{dataset}.json"
        if report.exists():
            splits = read_report(report).splits
            return SplitSizes(splits["train"].loaded, splits["test"].images, splits["train"].boxes)
        entry = self.library.dataset(dataset, WHERE)
        if entry.generate:
            train_images, test_images = entry.generate.train, entry.generate.test
            return SplitSizes(train_images, test_images, OBJECTS_PER_IMAGE * train_images)
        if dataset in PUBLISHED:
            return PUBLISHED[dataset]
        try:
            train, test = (read_split(entry, split).coco for split in ("train", "test"))
        except UserError:
            return None
        return SplitSizes(len(train["images"]), len(test["images"]), len(train["annotations"]))


def _neck_channels(model: dict[str, Any]) -> int:
    channels = model["neck"]["out_channels"]
    return max(channels) if isinstance(channels, list) else channels
