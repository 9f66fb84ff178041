"""What runs compute: how many images, and multiply-adds for each of them."""

from functools import cache
from typing import Any, NamedTuple

from kd.common.errors import UserError
from kd.common.results import RESULTS
from kd.config.compose import merge
from kd.config.library import Library
from kd.config.parts import Detector
from kd.config.run import ClassifierRun, Run
from kd.data.check_report import read_report
from kd.data.readers import read_split

Training = Run | ClassifierRun

BACKWARD = 2  # a gradient for the weights and one for the input cost a forward pass each
OBJECTS = 7  # in an image, where they have not been counted; COCO's mean
SQUARE = 224 * 224  # pixels at which multiply-adds of backbones are published
WHERE = "the estimate of a run's time"


class Counts(NamedTuple):
    """Images of a data set's two splits, and objects in the first."""

    train: int
    test: int
    objects: int


PUBLISHED = {
    "coco2017": Counts(118_287, 5_000, 860_000),
    "voc0712": Counts(16_551, 4_952, 40_058),
}
"""Of data sets that may be absent when the plan is made."""


class Work:
    """Images and multiply-adds of runs; None where a part does not say what it costs."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.counts = cache(self._counts)

    def images(self, run: Training) -> int | None:
        """Return images seen in training: epochs times the training split (crops: its objects)."""
        if "published_checkpoint" in run.config:
            return 0
        found = self.counts(run.dataset)
        if found is None:
            return None
        epochs = self.library.schedule(run.schedule, WHERE).epochs
        return epochs * (found.train if isinstance(run, Run) else found.objects)

    def tested(self, run: Training) -> int | None:
        """Return images (crops) of the test split."""
        found = self.counts(run.dataset)
        if found is None or isinstance(run, Run):
            return found and found.test
        return found.objects * found.test // found.train

    def inference(self, run: Training) -> float | None:
        """Return giga multiply-adds of an image in prediction."""
        if isinstance(run, ClassifierRun):
            return self._classifier(run)
        return self._detector(run)

    def training(self, run: Training) -> float | None:
        """Return giga multiply-adds of an image in training; teachers pass forward only."""
        own = self.inference(run)
        if own is None:
            return None
        taught: list[float | None] = []
        if isinstance(run, Run) and run.teacher:
            taught.append(self._detector(run.teacher))
        if isinstance(run, Run) and run.classifier:
            one = self._classifier(run.classifier)
            taught.append(one and OBJECTS * one)
        return None if None in taught else own * (1 + BACKWARD) + sum(filter(None, taught))

    def _classifier(self, run: ClassifierRun) -> float | None:
        part = self.library.classifier(run.classifier, WHERE)
        return part.gflops and part.gflops * part.size**2 / SQUARE

    def _detector(self, run: Run) -> float | None:
        part = self.library.detector(run.detector, WHERE)
        backbone, width = self.library.backbone(run.student, WHERE)
        rest = self._neck_and_head(part)
        if rest is None or backbone.gflops is None:
            return None
        changes = self.library.scale(run.scale, WHERE).detectors.get(run.detector, {})
        narrower = _neck_width(merge(part.model, changes)) / _neck_width(part.model)
        pixel = backbone.gflops * width**2 / SQUARE + rest * narrower**2
        return pixel * self._pixels(run, part)

    def _neck_and_head(self, part: Detector) -> float | None:
        """Return giga multiply-adds for a pixel: the published total without its backbone."""
        if part.cost is None:
            return None
        backbone, _ = self.library.backbone(part.cost.backbone, WHERE)
        pixels = part.cost.size[0] * part.cost.size[1]
        return backbone.gflops and part.cost.gflops / pixels - backbone.gflops / SQUARE

    def _pixels(self, run: Run, part: Detector) -> float:
        """Return the size of an image; photographs are taken for 4:3, generated ones are square."""
        side = self.library.scale(run.scale, WHERE).input_sizes.get(run.detector, part.input_size)
        entry = self.library.dataset(run.dataset, WHERE)
        width, height = (side, side) if side else entry.image_size
        if side or entry.generate:
            return min(width, height) ** 2
        return min(height, width * 3 / 4) ** 2 * 4 / 3

    def _counts(self, dataset: str) -> Counts | None:
        report = RESULTS / "checks" / f"{dataset}.json"
        if report.exists():
            splits = read_report(report).splits
            return Counts(splits["train"].loaded, splits["test"].images, splits["train"].boxes)
        entry = self.library.dataset(dataset, WHERE)
        if entry.generate:
            drawn = entry.generate
            return Counts(drawn.train, drawn.test, OBJECTS * drawn.train)
        if dataset in PUBLISHED:
            return PUBLISHED[dataset]
        try:
            train, test = (read_split(entry, split).coco for split in ("train", "test"))
        except UserError:
            return None
        return Counts(len(train["images"]), len(test["images"]), len(train["annotations"]))


def _neck_width(model: dict[str, Any]) -> int:
    channels = model["neck"]["out_channels"]
    return max(channels) if isinstance(channels, list) else channels
