"""Cost of a training step in multiply-adds, from the FLOPs that the parts state."""

from typing import Any

from kd.config.library import Library
from kd.config.parts import Detector
from kd.config.planning.term_epochs import active_share
from kd.config.run import AnyRun, ClassifierRun, Run

BACKWARD_PASSES = 2  # the gradients of weights and of inputs each cost as much as a forward pass
OBJECTS_PER_IMAGE = 7  # COCO's mean, for data sets whose objects have not been counted
REFERENCE_PIXELS = 224 * 224  # the image size for which multiply-adds of backbones are published
WHERE = "the estimate of a run's time"


class StepFlops:
    """Giga multiply-adds of an image of runs; None if a part does not state its FLOPs."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def inference(self, run: AnyRun) -> float | None:
        """Return the giga multiply-adds of predicting an image."""
        if isinstance(run, ClassifierRun):
            return self._classifier(run)
        return self._detector(run)

    def training(self, run: AnyRun) -> float | None:
        """Return the giga multiply-adds of training on an image, averaged over all epochs.

        Teachers run forward only, in the epochs in which a term needs them.
        """
        student = self.inference(run)
        if student is None:
            return None
        teachers: dict[str, float | None] = {}
        if isinstance(run, Run) and run.teacher:
            teachers["detector"] = self._detector(run.teacher)
        if isinstance(run, Run) and run.classifier:
            per_crop = self._classifier(run.classifier)
            teachers["classifier"] = per_crop and OBJECTS_PER_IMAGE * per_crop
        total = student * (1 + BACKWARD_PASSES)
        for kind, flops in teachers.items():
            if flops is None:
                return None
            total += flops * active_share(run.composed.terms, kind, run.composed.epochs)
        return total

    def _classifier(self, run: ClassifierRun) -> float | None:
        part = self.library.classifier(run.classifier, WHERE)
        return part.gflops and part.gflops * part.size**2 / REFERENCE_PIXELS

    def _detector(self, run: Run) -> float | None:
        part = self.library.detector_on(run.detector, run.student, WHERE)
        backbone, width = self.library.backbone(run.student, WHERE)
        neck_and_head = self._neck_and_head(part)
        if part.flops is None or neck_and_head is None or backbone.gflops is None:
            return None
        # A neck of half the width, and a head on it, compute a quarter.
        published = self.library.detector_on(run.detector, part.flops.backbone, WHERE)
        neck_width = _composed_channels(run, part) / _neck_channels(published.model)
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
        entry = self.library.dataset(run.dataset, WHERE)
        is_square = part.input_size is not None or entry.generate is not None
        width, height = run.composed.image_sizes("test")[0] if is_square else entry.image_size
        if is_square:
            return min(width, height) ** 2
        return min(height, width * 3 / 4) ** 2 * 4 / 3


def _composed_channels(run: Run, part: Detector) -> int:
    """Return the channels of a run's neck, without the backbone's that it appends to."""
    neck = run.composed.student["neck"]
    if part.neck_appends:
        return max(neck["out_channels"][len(neck["in_channels"]) :])
    return _neck_channels({"neck": neck})


def _neck_channels(model: dict[str, Any]) -> int:
    channels = model["neck"]["out_channels"]
    return max(channels) if isinstance(channels, list) else channels
