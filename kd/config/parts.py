"""Parts of a run: one model for the files of each folder of ``configs/`` but studies.

The docstring below a field is the reference of its key. Studies are in ``kd.config.study_parts``.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    model_validator,
)

from kd.common.merging import merge
from kd.common.schema import Part
from kd.observers.heads import check_declaration, observer_of_model, offered

Augmentation = Literal[
    "general", "ssd", "yolo", "rtmdet", "rtmdet-s", "rtmdet-tiny", "yolox", "yolox-tiny"
]


class DetectorFlops(Part):
    """FLOPs of a detector on a backbone, published or counted by ``kd.models.complexity``."""

    gflops: PositiveFloat
    """Giga multiply-adds of an image."""
    backbone: str
    """Backbone that they are stated for."""
    size: tuple[PositiveInt, PositiveInt]
    """Width and height of the image in pixels."""


class DetectorOnBackbone(Part):
    """Settings of a detector on a backbone, in place of those that it has on others."""

    augmentation: Augmentation | None = None
    """Augmentation of training images, if not the detector's."""
    input_size: PositiveInt | None = None
    """Side in pixels of the square that images are fitted into, if not the detector's."""
    model: dict[str, Any] = {}
    """Changes that are merged into the detector's ``model``, before those of a scale."""


class Detector(Part):
    """A detector without its backbone: ``configs/detectors``, or ``configs/teachers``."""

    title: str
    """Name in tables and figures."""
    augmentation: Augmentation = "general"
    """Augmentation of training images: a flip, or that of SSD, YOLOv3, RTMDet or YOLOX
    (kd/config/pipelines.py, kd/config/recipes/mixing.py)."""
    input_size: PositiveInt | None = None
    """Side in pixels of the square that images are fitted into (``ssd``: stretched to). Without it
    they are fitted into the data set's ``image_size``."""
    maps: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    """Indices of the backbone's maps that the neck reads, in its order; all maps without it."""
    neck_appends: bool = False
    """If true, the neck appends maps of ``out_channels`` of ``model`` to those of the backbone."""
    observer: str | None = None
    """Observer of a head that ``kd/observers/heads.py`` does not list; a key of its REQUIRED."""
    strides: list[PositiveInt] | None = None
    """Pixels per cell of each level of the neck, if the head does not state them."""
    trained_as: str | None = None
    """Detector that is trained in place of this one, which only teaches, with published weights
    (``configs/teachers``)."""
    flops: DetectorFlops | None = None
    """FLOPs, from which the time of trainings is estimated until some are measured."""
    model: dict[str, Any]
    """The detector as mmdet configures it, without backbone and number of classes."""
    backbones: dict[str, DetectorOnBackbone] = {}
    """Changes on some backbones: the widths of neck and head of RTMDet and YOLOX depend on the
    backbone's. A backbone of another width, such as ``cspnext-s-w0.5``, has those of its file."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Detector":
        if self.augmentation == "ssd" and self.input_size is None:
            raise ValueError("augmentation 'ssd' stretches images, so 'input_size' must be given")
        if self.augmentation.startswith(("rtmdet", "yolox")) and self.input_size is None:
            raise ValueError(
                f"augmentation '{self.augmentation}' pads images to a square, so 'input_size' must "
                "be given"
            )
        if self.maps and len(set(self.maps)) < len(self.maps):
            raise ValueError(f"'maps' must list each map once, not {self.maps}")
        check_declaration(self.model, self.observer)
        return self

    @property
    def observed_by(self) -> str:
        """Name of the observer of its head: the listed or declared one, otherwise ``maps``."""
        return observer_of_model(self.model, self.observer)

    @property
    def offered(self) -> frozenset[str]:
        """Features that methods and analyses can read of it, as ``OBSERVABLE`` names them."""
        return offered(self.model, self.observer)

    def on(self, backbone: str) -> "Detector":
        """Return the detector on a backbone, named as its file."""
        changes = self.backbones.get(backbone)
        if changes is None:
            return self
        model = merge(self.model, changes.model)
        size = changes.input_size or self.input_size
        family = changes.augmentation or self.augmentation
        return self.model_copy(update={"model": model, "input_size": size, "augmentation": family})


class Backbone(Part):
    """A backbone: ``configs/backbones/*.yaml``; ``r18-w0.5`` is ``r18`` at half width."""

    title: str
    """Name in tables and figures."""
    model: dict[str, Any]
    """The backbone as mmdet configures it."""
    scaled: dict[str, int | float]
    """Arguments of ``model`` that are multiplied by the width factor."""
    channels: list[PositiveInt]
    """Channels of the maps that the neck reads, at full width."""
    divisor: PositiveInt = 1
    """Number whose multiple scaled channels are rounded to (8 for MobileNets)."""
    imagenet: str | None = None
    """Weights for ``init: imagenet``: ``torchvision://`` and a model, or the address of a
    classifier of OpenMMLab, whose file's name ends in its digest. A narrower backbone uses their
    leading channels."""
    imagenet_sliced: bool = True
    """If false, narrower backbones cannot use the weights."""
    imagenet_frozen: dict[str, Any] = {}
    """Further arguments of ``model`` at full width with ``init: imagenet``."""
    data_preprocessor: dict[str, Any] = {}
    """Normalization of the images that the ImageNet weights were trained on, if it is not that of
    torchvision. Detectors whose ``model`` states no normalization prepare images with it."""
    gflops: PositiveFloat | None = None
    """Giga multiply-adds of an image of 224 x 224 pixels, at full width."""


class ZooWeights(Part):
    """Initial weights of a whole detector."""

    zoo: str
    """Name of a detector of mmdet's model zoo with the same architecture; docs/reference/zoo.md
    lists them."""


InitialWeights = Annotated[
    Annotated[Literal["imagenet", "scratch"], Tag("(name)")] | Annotated[ZooWeights, Tag("(zoo)")],
    Discriminator(lambda value: "(name)" if isinstance(value, str) else "(zoo)"),
]
"""Initial weights of the backbone, or of a whole detector."""


class Schedule(Part):
    """A training schedule: ``configs/schedules/*.yaml``."""

    base: str | None = None
    """Schedule whose settings this one inherits unless it sets them."""
    epochs: PositiveInt
    """Passes over the training images."""
    stop_epoch: PositiveInt | None = None
    """Epoch after which the training ends, with the learning rates of ``epochs``: the weights of an
    unfinished training."""
    milestones: list[PositiveInt]
    """Epochs after which the learning rate is divided by 10."""
    cosine_from: NonNegativeInt | None = None
    """Epochs after which the learning rate falls as half a cosine, in place of ``milestones``."""
    cosine_to: float = Field(0.05, ge=0, lt=1)
    """Share of ``lr`` at which the cosine ends."""
    constant_epochs: PositiveInt | None = None
    """Last epochs, which have the rate at which the cosine ends; without it, the cosine ends with
    the training."""
    warmup_iters: NonNegativeInt
    """Steps over which the learning rate rises linearly to ``lr``."""
    warmup_start: float = Field(0.001, gt=0, lt=1)
    """Share of ``lr`` at which the linear warm-up starts."""
    warmup_constant: bool = False
    """If true, the learning rate stays at ``warmup_start`` during the warm-up, then is ``lr``."""
    warmup_epochs: PositiveInt | None = None
    """Epochs over which the learning rate rises quadratically from 0, in place of
    ``warmup_iters``, which is then 0."""
    batch_size: PositiveInt
    """Images of a step, of all GPUs together."""
    lr: PositiveFloat
    """Learning rate of the whole batch."""
    base_batch_size: PositiveInt | None = None
    """Batch that ``lr`` is stated for, if that is another one. The learning rate is then ``lr``
    times ``batch_size`` over this number (linear scaling rule)."""
    optimizer: Literal["SGD", "AdamW"] = "SGD"
    """SGD in every paper. AdamW learns more in the few steps of the smoke scale."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD; AdamW ignores it."""
    nesterov: bool = False
    """If true, SGD has Nesterov's momentum."""
    weight_decay: NonNegativeFloat = 0.0001
    """Weight decay of the optimizer."""
    decay_norm_and_bias: bool = True
    """If false, normalization layers and biases have no weight decay."""
    bias_lr: PositiveFloat | None = None
    """Learning rate of biases relative to ``lr``, except those of normalization. With it no bias
    has weight decay; without it biases are trained as weights."""
    clip_grad: PositiveFloat | None = None
    """Largest norm of the gradient; without it gradients are not clipped."""
    init: InitialWeights = "imagenet"
    """Initial weights: those of the backbone, or ``{zoo: NAME}``, those of a published detector of
    the same architecture. Its class layers are left out unless its classes are those of the data.
    """
    norm: Literal["BN", "SyncBN"] = "BN"
    """Normalization of the backbone. ``BN`` is that of the backbone's file, frozen unless
    ``init`` is ``scratch``. ``SyncBN`` is trained with the statistics of the whole batch."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of convolutions and matrix products in the forward passes of student and teachers.
    Weights and distillation terms are float32. With float16 the loss is scaled."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Share of the newest weights in the exponential moving average of the student's weights, late
    in the training. The averaged weights are those of the run: they are saved and evaluated, and
    teach. The share falls from 1 as ``ema + (1 - ema) exp(-steps / 2000)``."""
    unmixed_epochs: PositiveInt | None = None
    """Last epochs in which the augmentations of RTMDet and YOLOX mix no images (Mosaic, MixUp) and
    YOLOX has an L1 loss of boxes."""
    checkpoint_steps: PositiveInt = 500
    """Steps between checkpoints. Others are written every five minutes and at the end."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of the training, after the warm-up."""
        if self.base_batch_size is None:
            return self.lr
        return self.lr * self.batch_size / self.base_batch_size

    @model_validator(mode="after")
    def _milestones_within(self) -> "Schedule":
        if self.milestones != sorted(self.milestones) or self.milestones[-1:] > [self.epochs]:
            raise ValueError(
                f"milestones {self.milestones} must rise and lie within {self.epochs} epochs"
            )
        if self.stop_epoch and self.stop_epoch > self.epochs:
            raise ValueError(f"stop_epoch {self.stop_epoch} must lie within {self.epochs} epochs")
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> "Schedule":
        if self.warmup_epochs and self.warmup_iters:
            raise ValueError("'warmup_epochs' needs 'warmup_iters: 0': there is one warm-up")
        if self.warmup_constant and not self.warmup_iters:
            raise ValueError("'warmup_constant' needs 'warmup_iters' above 0")
        if self.bias_lr and not self.decay_norm_and_bias:
            raise ValueError(
                "'bias_lr' needs 'decay_norm_and_bias: true': biases have no decay then"
            )
        if self.nesterov and (self.optimizer != "SGD" or not self.momentum):
            raise ValueError("'nesterov' needs 'optimizer: SGD' and a 'momentum' above 0")
        if self.unmixed_epochs and self.unmixed_epochs > self.epochs:
            raise ValueError(
                f"unmixed_epochs {self.unmixed_epochs} must lie within {self.epochs} epochs"
            )
        if self.cosine_from is None:
            if self.constant_epochs:
                raise ValueError("'constant_epochs' needs 'cosine_from'")
            return self
        if self.milestones:
            raise ValueError("'cosine_from' needs 'milestones: []': the rate falls in one way")
        first = max(self.cosine_from, self.warmup_epochs or 0)
        if first >= self.epochs - (self.constant_epochs or 0):
            raise ValueError(
                f"{self.epochs} epochs leave none for the cosine: set a lower 'cosine_from', "
                "'warmup_epochs' or 'constant_epochs'"
            )
        return self


class Classifier(Part):
    """A classifier of objects that teaches detectors (DICOD): ``configs/classifiers/*.yaml``."""

    title: str
    """Name in tables and figures."""
    architecture: str
    """Name of a classifier of torchvision, or ``timm/NAME``; its final layer is replaced."""
    family: Literal["general", "ssd"]
    """Augmentation and normalization of the detectors that it teaches."""
    loss: Literal["cross_entropy", "focal", "cross_entropy+focal"] = "cross_entropy"
    """Loss of its training; ``cross_entropy+focal`` is the sum of both."""
    size: int = Field(112, ge=40, le=1024)
    """Side of its input in pixels. Below 40 a stride of 32 leaves one cell, and a batch of one crop
    cannot be normalized."""
    margin: float = Field(0.25, ge=0, le=2)
    """Margin that is cut out on each side of an object, as a share of its box's width or height."""
    min_side: PositiveInt = 1
    """Shortest side in pixels of the objects that are cut out."""
    balanced: bool = False
    """If true, training samples every class equally often."""
    schedule: str = "classifier"
    """Name of its schedule."""
    gflops: PositiveFloat | None = None
    """Giga multiply-adds of an image of 224 x 224 pixels."""


class Jobs(Part):
    """Resources of a training, for keys that are null in ``configs/default.yaml``."""

    gpus: NonNegativeInt = 0
    """GPUs of a training, which share its batch; 0 for CPUs."""
    threads: PositiveInt = 1
    """CPU threads of each process."""
    workers: NonNegativeInt = 0
    """Data loading processes of each process."""
    mem_mb: PositiveInt = 3000
    """Memory of each process without its data loading processes."""


class Scale(Part):
    """A size at which studies run: ``configs/scales/*.yaml``.

    It maps the parts that a study names to their stand-ins, which are trained instead.
    """

    title: str
    """Description in the heading of tables and reports."""
    base: str | None = None
    """Scale whose settings this one inherits unless it sets them; blocks are merged key by key."""
    datasets: dict[str, str] = {}
    """Stand-ins for data sets."""
    schedules: dict[str, str] = {}
    """Stand-ins for schedules."""
    backbones: dict[str, str] = {}
    """Stand-ins for backbones."""
    classifiers: dict[str, str] = {}
    """Stand-ins for classifiers."""
    detectors: dict[str, dict[str, Any]] = {}
    """Changes that are merged into a detector's ``model``. A block that changes a list of blocks
    changes each of them."""
    checkpoints: bool = True
    """If false, teachers are trained in place of published weights, which fit only the networks and
    classes of the study."""
    input_sizes: dict[str, PositiveInt] = {}
    """Replacements for the ``input_size`` of detectors that have one."""
    jobs: Jobs = Jobs()
    """Resources of a training."""


class PresetEntry(Part):
    """An entry of ``configs/presets/<method>.yaml``: a variant of the method, under its name."""

    title: str
    """Name in tables and figures."""
    settings: dict[str, Any] = {}
    """Settings of the method, over its defaults."""


class ZooEntry(Part):
    """An entry of ``configs/zoo.yaml``: a published detector, under mmdet's folder and name."""

    detector: str
    """Detector with the same architecture."""
    backbone: str
    """Backbone with the same architecture."""
    schedule: str
    """Schedule of its training; that of a file, or of a file with changes."""
    without: list[str] = []
    """Beginnings of the names of weights that are left out, such as those of a mask branch."""
    differs: str = ""
    """Other differences of its training, with which only a pair that names it learns from it."""
    remark: str = ""
    """Difference of its initial weights, which is stated and does not count."""
