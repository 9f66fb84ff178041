"""The parts a run is composed of: one model per folder of ``configs/``."""

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

from kd.common.schema import Part

Augmentation = Literal["general", "ssd", "yolo"]


class DetectorFlops(Part):
    """Published giga multiply-adds of a detector on a backbone; ``size``: width and height."""

    gflops: PositiveFloat
    backbone: str
    size: tuple[PositiveInt, PositiveInt]


class Detector(Part):
    """A detector without its backbone, in mmdet's own terms."""

    title: str
    augmentation: Augmentation = "general"
    """How training images are changed: flipped, or as SSD or YOLOv3 do (settings/pipelines.py)."""
    input_size: PositiveInt | None = None
    """Side of the square, in pixels, that images are fitted into (``ssd``: stretched to), in place
    of the data set's ``image_size``."""
    maps: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    """Which of the backbone's maps the neck takes, in the order of its ``in_channels``."""
    neck_appends: bool = False
    """Whether the neck hands these maps on, before maps of the ``out_channels`` given here."""
    flops: DetectorFlops | None = None
    """Published FLOPs, from which the time of trainings is estimated until some are measured."""
    model: dict[str, Any]

    @model_validator(mode="after")
    def _fits_together(self) -> "Detector":
        if self.augmentation == "ssd" and self.input_size is None:
            raise ValueError("augmentation 'ssd' stretches images, so 'input_size' must be given")
        if self.maps and len(set(self.maps)) < len(self.maps):
            raise ValueError(f"maps {self.maps} names a map twice")
        return self


class Backbone(Part):
    """A backbone in mmdet's own terms; ``r18-w0.5`` is ``r18`` at half width."""

    title: str
    model: dict[str, Any]
    scaled: dict[str, int | float]
    """Arguments that a width factor multiplies."""
    channels: list[PositiveInt]
    """Channels of the maps handed to the neck, at full width."""
    divisor: PositiveInt = 1
    """Scaled channels are rounded to a multiple of this (8 for MobileNets)."""
    imagenet: str | None = None
    """Weights for ``init: imagenet``; a narrower network takes their leading channels."""
    imagenet_frozen: dict[str, Any] = {}
    """Further arguments when training starts from ImageNet weights at full width."""
    gflops: PositiveFloat | None = None
    """Giga multiply-adds of an image of 224 x 224 pixels, at full width."""


class Schedule(Part):
    """Linear warm-up and steps; ``lr`` belongs to the total ``batch_size``."""

    base: str | None = None
    """Schedule whose settings this one inherits where it does not set them."""
    epochs: PositiveInt
    milestones: list[PositiveInt]
    warmup_iters: NonNegativeInt
    batch_size: PositiveInt
    lr: PositiveFloat
    optimizer: Literal["SGD", "AdamW"] = "SGD"
    """SGD in every paper; AdamW learns more in the few steps of the smoke scale."""
    momentum: NonNegativeFloat = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 0.0001
    clip_grad: PositiveFloat | None = None
    """Largest gradient norm."""
    init: Literal["imagenet", "scratch"] = "imagenet"
    norm: Literal["BN", "SyncBN"] = "BN"
    """Of the backbone. BN is as the backbone's file says: at rest where it starts from ImageNet.
    SyncBN is trained, on the whole batch however many GPUs share it."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of convolutions and matrix products, in the student's and the teachers' forward passes;
    weights and distillation terms are float32. In float16 the loss is scaled."""
    checkpoint_steps: PositiveInt = 500
    """Steps between checkpoints. Others are written every five minutes and at the end."""

    @model_validator(mode="after")
    def _milestones_within(self) -> "Schedule":
        if self.milestones != sorted(self.milestones) or self.milestones[-1:] > [self.epochs]:
            raise ValueError(
                f"milestones {self.milestones} must rise and lie within {self.epochs} epochs"
            )
        return self


class Classifier(Part):
    """A classifier of the objects of a detection data set, to teach detectors (DICOD)."""

    title: str
    architecture: str
    """Name of a classifier of torchvision; it gets a new final layer."""
    family: Literal["general", "ssd"]
    """Augmentation and normalisation, as the detectors that it teaches see images."""
    loss: Literal["cross_entropy", "focal", "cross_entropy+focal"] = "cross_entropy"
    size: int = Field(112, ge=40, le=1024)
    """Side of its input in pixels; below 40 a stride of 32 leaves one cell, a single crop none
    to normalise a batch over."""
    margin: float = Field(0.25, ge=0, le=2)
    """What is cut out around an object, on each side, as a share of its box's width or height."""
    min_side: PositiveInt = 1
    """Objects with a shorter side, in pixels, are left out."""
    balanced: bool = False
    """Draw every class equally often in training."""
    schedule: str = "classifier"
    gflops: PositiveFloat | None = None
    """Giga multiply-adds of an image of 224 x 224 pixels."""


class Jobs(Part):
    """What a training asks for where ``configs/default.yaml`` leaves it to the scale."""

    gpus: NonNegativeInt = 0
    threads: PositiveInt = 1
    """CPU threads of each process."""
    workers: NonNegativeInt = 0
    """Data loading processes of each process."""
    mem_mb: PositiveInt = 3000
    """Memory of each process, its data loading processes not counted."""


class Scale(Part):
    """A size at which studies are run: what stands in for the parts that a study names."""

    title: str
    base: str | None = None
    """Scale whose settings this one inherits where it does not set them; blocks are merged key by
    key."""
    datasets: dict[str, str] = {}
    schedules: dict[str, str] = {}
    backbones: dict[str, str] = {}
    classifiers: dict[str, str] = {}
    detectors: dict[str, dict[str, Any]] = {}
    """Changes merged into a detector's model; a block for a list of blocks changes each."""
    input_sizes: dict[str, PositiveInt] = {}
    """Stand-ins for the ``input_size`` of detectors that have one."""
    jobs: Jobs = Jobs()


class PresetEntry(Part):
    """An entry of ``configs/presets/<method>.yaml``: a variant of the method, under its name."""

    title: str
    settings: dict[str, Any] = {}
    """Settings of the method, over its defaults."""


class Checkpoint(Part):
    """Published weights: a file or an address, and the SHA-256 that they must have."""

    source: str
    sha256: str

    @model_validator(mode="after")
    def _digest_is_hex(self) -> "Checkpoint":
        if len(self.sha256) != 64 or set(self.sha256.lower()) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 hexadecimal digits")
        return self


class Pair(Part):
    """A teacher and a student backbone; the teacher's detector is the student's unless named.

    Without a teacher only methods apply that learn from a classifier or from none.
    """

    teacher: str | None = None
    student: str
    teacher_detector: str | None = None
    checkpoint: Checkpoint | None = None
    """Published teacher weights, used instead of training the teacher."""
    teacher_schedule: str | None = None
    """How the teacher is trained, if not like the student."""
    classifier: str | None = None
    """The classifier that teaches, over the table's."""


def _form(values: Any) -> str:
    return "(joint)" if isinstance(values, list) else "(each)"


Sweep = Annotated[
    Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Tag("(each)")]
    | Annotated[
        list[Annotated[dict[str, Any], Field(min_length=1)]], Field(min_length=1), Tag("(joint)")
    ],
    Discriminator(_form),
]
"""Values by setting, a row for each value; or a list of settings, a row for each entry."""


class Table(Part):
    """The rows of one published table as a matrix: detectors x pairs x methods."""

    title: str
    dataset: str
    schedule: str | Annotated[list[str], Field(min_length=1)]
    """Of several, each has its rows."""
    seeds: PositiveInt | None = None
    """How many, over the study's number."""
    first_seed: NonNegativeInt = 0
    """Runs are repeated with this seed and the next ones: what a weight is tuned on, another table
    does not show."""
    detectors: list[str] = Field(min_length=1)
    pairs: list[Pair] = Field(min_length=1)
    methods: list[str]
    classifiers: dict[Augmentation, str] = {}
    """Classifier teachers by a detector's family of augmentation."""
    published: str | None = None
    """The table's name in the study's published numbers."""
    settings: dict[str, dict[str, Any]] = {}
    """Settings by method name, over the method's defaults."""
    sweep: dict[str, Sweep] = {}
    """Values of settings by method name: a row for each, in place of the method's one."""

    @property
    def schedules(self) -> list[str]:
        return [self.schedule] if isinstance(self.schedule, str) else self.schedule


class Figure(Part):
    """An analysis of rows of a table: those of one detector and one pair.

    Where table, detector or student are not named, the first one's.
    """

    analysis: str
    """A file of ``analysis/figures``."""
    table: str | None = None
    detector: str | None = None
    student: str | None = None
    rows: Annotated[list[str], Field(min_length=1)] | None = None
    """``teacher``, ``baseline`` and methods, in the order of the figure; without it, all."""
    settings: dict[str, Any] = {}
    """Settings of the analysis, over its defaults."""


Word = Annotated[str, Field(pattern=r"^\w+$")]


class Study(Part):
    """One paper: its tables, its numbers in a file under ``configs/published/``, its figures."""

    title: str
    source: str
    published: str | None = None
    seeds: PositiveInt = 1
    """Runs are repeated with so many seeds: 0, 1, ..., or from a table's ``first_seed`` on."""
    tables: Annotated[dict[Word, Table], Field(min_length=1)]
    """By the name of their file of gains."""
    figures: dict[Word, Figure] = {}
    """By the name of their folder and rule."""

    @model_validator(mode="after")
    def _titles_differ(self) -> "Study":
        titles: dict[str, str] = {}
        for key, table in self.tables.items():
            other = titles.setdefault(table.title, key)
            if other != key:
                raise ValueError(
                    f"tables '{other}' and '{key}' have one title, '{table.title}', by which "
                    f"readers tell them apart; give '{key}' another"
                )
        return self
