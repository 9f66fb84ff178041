"""Batches, candidates and the observation of any detector: its maps and its detection losses."""

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
    """Progress of a training: finished steps and epochs, and how many epochs there are."""

    step: int = 0
    epoch: int = 0
    epochs: int = 1
    steps: int = 0
    """Steps of the whole training; 0 if unknown."""


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
    """(B, 3, H, W), normalized and padded."""
    samples: list[Any]
    """mmdet's DetDataSample of each image."""
    progress: Progress = START
    mean: Tensor | None = None
    """(3,), 0 to 255: mean that was subtracted from the images, in the order of their channels."""
    std: Tensor | None = None
    """(3,), standard deviation that the images were then divided by."""
    is_bgr: bool = False
    """True if the channels are blue, green and red, False if they are red, green and blue."""

    def subset(self, images: slice) -> Batch:
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
        """(B,): offset from a box's index in its image to its index in the batch."""
        ends = accumulate(len(labels) for labels in self.gt_labels)
        # A tensor built from a list would make the host wait for its copy to the GPU.
        starts = [
            labels.new_full((), end - len(labels))
            for labels, end in zip(self.gt_labels, ends, strict=True)
        ]
        return torch.stack(starts)


@dataclass(frozen=True)
class Candidates:
    """Boxes that teacher and student both classify: priors of a dense head, or sampled RoIs.

    P rows in a fixed order; ``candidates[mask]`` selects rows.
    """

    image: Tensor
    """(P,): index of the image in the batch."""
    index: Tensor
    """(P,): index of the prior, or of the row of ``rois``."""
    instance: Tensor
    """(P,): the assigned object's index in the batch, -1 for background."""
    rois: Tensor | None = None
    """(R, 5): image and xyxy in pixels; two-stage heads only."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> Candidates:
        if rows.dtype == torch.bool:
            # Indexing by a mask calls nonzero, which waits for the GPU: once here, not three times.
            rows = rows.nonzero().flatten()
        return replace(
            self,
            image=self.image[rows],
            index=self.index[rows],
            instance=self.instance[rows],
        )

    @cached_property
    def positive(self) -> Candidates:
        """Candidates with an object."""
        return self[self.instance >= 0]

    def labels(self, batch: Batch) -> Tensor:
        """Return the class (P,) of each candidate's object; all must have one."""
        return torch.cat(batch.gt_labels)[self.instance]

    def truth(self, batch: Batch) -> Tensor:
        """Return the ground-truth box (P, 4) of each candidate; all must have one."""
        return torch.cat(batch.gt_boxes)[self.instance]


class Observation:
    """Values of a detector for one batch, each computed once and only if a method reads it.

    A student's observation holds the maps and the label assignment that its detection loss was
    computed from, so call ``losses`` first. A teacher's runs without gradients (``frozen``).
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
        """Autocast settings of the step; later forward passes of a term use them, too."""

    @property
    def head(self) -> Any:
        """The head that predicts at every prior."""
        return self.detector.bbox_head

    @cached_property
    def stages(self) -> list[Tensor]:
        """Maps of the backbone's stages, each (B, C, H, W)."""
        with self.gradients():
            return list(self.detector.backbone(self.batch.inputs))

    @cached_property
    def neck(self) -> list[Tensor]:
        """Maps of the neck by level, each (B, C, H, W)."""
        with self.gradients():
            return list(self.detector.neck(tuple(self.stages)))

    def read_ahead(self, names: frozenset[str]) -> None:
        """Compute the maps that methods will read, given as keys of OBSERVABLE, and drop others.

        A teacher's maps are computed before the student's losses. Otherwise the tensors of those
        losses and the activations of the teacher would be in memory at the same time.
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
        """True for one softmax over classes, background last; False for a sigmoid per class."""
        return not self.head.use_sigmoid_cls

    def subset(self, images: slice) -> Any:
        """Return the observation of some of the batch's images, cut out of this one's values."""
        from kd.observers.subset import subset_of

        return subset_of(self, images)

    def losses(self) -> dict[str, Any]:
        """Return mmdet's detection losses and record the label assignment of their targets."""
        raise NotImplementedError

    @contextmanager
    def gradients(self) -> Iterator[None]:
        """Enable gradients in a block for a student, unless they are disabled outside.

        The block runs in the precision of the step, even if a term in float32 calls it.
        """
        enabled = torch.is_grad_enabled() and not self.frozen
        with torch.autocast(**self.precision), torch.set_grad_enabled(enabled):
            yield


class MapsObservation(Observation):
    """Observation of backbone and neck, for a head whose predictions no other observer reads.

    mmdet computes the detector's losses from the maps that methods read.
    """

    @property
    def head(self) -> Any:
        return getattr(self.detector, "rpn_head", None) or self.detector.bbox_head

    @property
    def strides(self) -> list[int]:
        """Pixels per cell of each neck level, measured once if the head states none."""
        if hasattr(self.head, "prior_generator"):
            return strides_of(self.head)
        if not hasattr(self.detector, "neck_strides"):
            self.detector.neck_strides = channels_of(self.detector).strides
        return list(self.detector.neck_strides)

    def losses(self) -> dict[str, Any]:
        from kd.observers.recording import wrapped

        with wrapped(self.detector, "extract_feat", lambda _: lambda _: tuple(self.neck)):
            return self.detector.loss(self.batch.inputs, self.batch.samples)


def strides_of(head: Any) -> list[int]:
    """Return the pixels per cell of each level of a head."""
    strides = head.prior_generator.strides
    return [stride[0] if isinstance(stride, tuple) else stride for stride in strides]


def channels_of(detector: Any) -> Channels:
    """Return the widths of a detector's maps, measured on a blank image in eval mode."""
    head = getattr(detector, "rpn_head", None) or detector.bbox_head
    backbone, training = detector.backbone, detector.backbone.training
    backbone.eval()
    with torch.no_grad():
        # The neck's widths are settings; those of the backbone are known only from its outputs.
        blank = next(detector.parameters()).new_zeros(1, 3, 64, 64)
        stages = backbone(blank)
        # Heads of transformers have neither priors nor the neck's widths.
        neck = [] if hasattr(head, "prior_generator") else detector.neck(tuple(stages))
    backbone.train(training)
    widths = [stage.shape[1] for stage in stages]
    if neck:
        strides = tuple(blank.shape[-1] // level.shape[-1] for level in neck)
        return Channels([level.shape[1] for level in neck], widths, strides)
    strides, width = tuple(strides_of(head)), head.in_channels
    return Channels(
        [width] * len(strides) if isinstance(width, int) else list(width), widths, strides
    )


def plain(boxes: Any) -> Tensor:
    """Return boxes as a tensor (N, 4), unwrapped from mmdet's box type if they have it."""
    return boxes.tensor if hasattr(boxes, "tensor") else boxes
