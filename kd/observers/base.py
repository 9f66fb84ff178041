"""What every detector shows: its maps, and the losses of its own training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from kd.common.modules import LazyModule

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = LazyModule("torch")


class Progress(NamedTuple):
    """How far a training is: steps and epochs made, and how many epochs there are."""

    step: int = 0
    epoch: int = 0
    epochs: int = 1
    steps: int = 0
    """Steps of the whole training; 0 if they are not known."""


START = Progress()


class Channels(NamedTuple):
    """Widths of a detector's maps: by neck level and by backbone stage."""

    neck: list[int]
    stages: list[int]
    strides: tuple[int, ...] = ()
    """Pixels per cell of each neck level."""


@dataclass(frozen=True)
class Batch:
    """Ground truth and images of one step: boxes xyxy in pixels of the network's input."""

    inputs: Tensor
    """(B, 3, H, W), normalised and padded."""
    samples: list[Any]
    """mmdet's DetDataSample of each image."""
    progress: Progress = START
    mean: Tensor | None = None
    """(3,), RGB, 0 to 255: what was subtracted from the images."""
    std: Tensor | None = None
    """(3,), what they were then divided by."""

    def part(self, images: slice) -> Batch:
        """Return the batch of some of the images."""
        return replace(self, inputs=self.inputs[images], samples=self.samples[images])

    @cached_property
    def gt_boxes(self) -> list[Tensor]:
        """Per image (G, 4)."""
        return [plain(sample.gt_instances.bboxes) for sample in self.samples]

    @cached_property
    def gt_labels(self) -> list[Tensor]:
        """Per image (G,), class indices."""
        return [sample.gt_instances.labels for sample in self.samples]

    @cached_property
    def gt_offsets(self) -> Tensor:
        """(B,): what to add to a box's index in its image to get its index in the batch."""
        ends = accumulate(len(labels) for labels in self.gt_labels)
        # Not from a list, for whose copy to a GPU the host would wait.
        starts = [
            labels.new_full((), end - len(labels))
            for labels, end in zip(self.gt_labels, ends, strict=True)
        ]
        return torch.stack(starts)


@dataclass(frozen=True)
class Candidates:
    """Boxes that teacher and student both classify: priors of a dense head, or sampled RoIs.

    P rows in a fixed order; ``candidates[mask]`` keeps some of them.
    """

    image: Tensor
    """(P,): the image of the batch."""
    index: Tensor
    """(P,): which prior, or which row of ``rois``."""
    instance: Tensor
    """(P,): the assigned object's index in the batch, -1 for background."""
    rois: Tensor | None = None
    """(R, 5): image and xyxy in pixels, of a two-stage head."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: Tensor) -> Candidates:
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero().flatten()  # once, and not for each of the three
        return replace(
            self,
            image=self.image[chosen],
            index=self.index[chosen],
            instance=self.instance[chosen],
        )

    @cached_property
    def positive(self) -> Candidates:
        """Those with an object."""
        return self[self.instance >= 0]

    def labels(self, batch: Batch) -> Tensor:
        """Return the class (P,) of each candidate's object; all must have one."""
        return torch.cat(batch.gt_labels)[self.instance]

    def truth(self, batch: Batch) -> Tensor:
        """Return the ground-truth box (P, 4) of each candidate; all must have one."""
        return torch.cat(batch.gt_boxes)[self.instance]


class Observation:
    """A detector's view of a batch, computed once and only as deep as it is read.

    A student's holds the maps and the label assignment that its own loss was computed from, so
    ``losses`` comes first; a teacher's runs without gradients (``frozen``).
    """

    def __init__(self, detector: Any, batch: Batch, *, frozen: bool) -> None:
        self.detector = detector
        self.batch = batch
        self.frozen = frozen
        device = batch.inputs.device.type
        self.precision: dict[str, Any] = {
            "device_type": device,
            "dtype": torch.get_autocast_dtype(device),
            "enabled": torch.is_autocast_enabled(device),
        }
        """In which it was made, for the forward passes that a term asks for later."""

    @property
    def head(self) -> Any:
        """The head that predicts at every prior."""
        return self.detector.bbox_head

    @cached_property
    def stages(self) -> list[Tensor]:
        """The backbone's maps, each (B, C, H, W)."""
        with self.gradients():
            return list(self.detector.backbone(self.batch.inputs))

    @cached_property
    def neck(self) -> list[Tensor]:
        """Per level (B, C, H, W)."""
        with self.gradients():
            return list(self.detector.neck(tuple(self.stages)))

    def read_ahead(self, names: frozenset[str]) -> None:
        """Make the maps that are going to be read, by keys of OBSERVABLE, and keep no other ones.

        A teacher's are made before the student's losses, whose tensors would be in memory beside
        what a backbone and a neck need for a while.
        """
        if names - {"stages"}:
            _ = self.neck
        elif names:
            _ = self.stages
        if "stages" not in names:
            vars(self).pop("stages", None)

    @property
    def strides(self) -> list[int]:
        """Pixels per cell of each neck level."""
        return strides_of(self.head)

    @property
    def softmax(self) -> bool:
        """Whether the class outputs share one softmax, background last, or have a sigmoid each."""
        return not self.head.use_sigmoid_cls

    def part(self, images: slice) -> Any:
        """Return the observation of some of the batch's images, with this one's values."""
        from kd.observers.subset import part_of

        return part_of(self, images)

    def losses(self) -> dict[str, Any]:
        """Return mmdet's detection losses, and keep the label assignment they were made with."""
        raise NotImplementedError

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Record gradients of a student only, and only where they are recorded at all.

        Forward passes inside run in the precision of the step, though a term reads in float32.
        """
        recorded = torch.is_grad_enabled() and not self.frozen
        with torch.autocast(**self.precision), torch.set_grad_enabled(recorded):
            yield


class MapsObservation(Observation):
    """A detector whose predictions no observer reads: backbone and neck alone.

    Its losses are its own, computed by mmdet from the maps that methods read.
    """

    @property
    def head(self) -> Any:
        return getattr(self.detector, "rpn_head", None) or self.detector.bbox_head

    def losses(self) -> dict[str, Any]:
        from kd.observers.recording import wrapped

        with wrapped(self.detector, "extract_feat", lambda _: lambda _: tuple(self.neck)):
            return self.detector.loss(self.batch.inputs, self.batch.samples)


def strides_of(head: Any) -> list[int]:
    """Return the pixels per cell of each level that a head predicts on."""
    strides = head.prior_generator.strides
    return [stride[0] if isinstance(stride, tuple) else stride for stride in strides]


def channels_of(detector: Any) -> Channels:
    """Return the widths of a detector's maps, from a blank image in eval mode."""
    head = getattr(detector, "rpn_head", None) or detector.bbox_head
    strides, width = strides_of(head), head.in_channels
    backbone, training = detector.backbone, detector.backbone.training
    backbone.eval()
    with torch.no_grad():
        blank = next(detector.parameters()).new_zeros(1, 3, 64, 64)
        stages = [stage.shape[1] for stage in backbone(blank)]
    backbone.train(training)
    neck = [width] * len(strides) if isinstance(width, int) else list(width)
    return Channels(neck, stages, tuple(strides))


def plain(boxes: Any) -> Tensor:
    """Return the (N, 4) tensor of boxes that mmdet may have wrapped in its own type."""
    return boxes.tensor if hasattr(boxes, "tensor") else boxes
