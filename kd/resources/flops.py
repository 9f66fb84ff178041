"""FLOPs of runs: their number of images, and giga multiply-adds for each image."""

from functools import cache
from typing import NamedTuple

from kd.common.errors import UserError
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.planning.step_flops import OBJECTS_PER_IMAGE, WHERE, StepFlops
from kd.config.run import AnyRun, Run
from kd.data.check_report import read_report
from kd.data.readers import read_split


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


class RunFlops(StepFlops):
    """Images and giga multiply-adds of runs; None if a part does not state its FLOPs."""

    def __init__(self, library: Library) -> None:
        super().__init__(library)
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
