"""Parts of a run: one model for the files of each folder of ``configs/``.

The docstring below a field is the reference of its key.
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

from kd.common.schema import FIGURE_PATTERN, NAME_PATTERN, Part
from kd.observers.heads import check_declaration

Augmentation = Literal["general", "ssd", "yolo"]
TeacherSeeds = Literal["first", "paired"]


class DetectorFlops(Part):
    """Published FLOPs of a detector on a backbone."""

    gflops: PositiveFloat
    """Giga multiply-adds of an image."""
    backbone: str
    """Backbone that they were published for."""
    size: tuple[PositiveInt, PositiveInt]
    """Width and height of the image in pixels."""


class Detector(Part):
    """A detector without its backbone: ``configs/detectors/*.yaml``."""

    title: str
    """Name in tables and figures."""
    augmentation: Augmentation = "general"
    """Augmentation of training images (kd/config/pipelines.py): a flip, or SSD's or YOLOv3's."""
    input_size: PositiveInt | None = None
    """Side in pixels of the square that images are fitted into (``ssd``: stretched to). Without it
    they are fitted into the data set's ``image_size``."""
    maps: Annotated[list[NonNegativeInt], Field(min_length=1)] | None = None
    """Indices of the backbone's maps that the neck reads, in its order; all maps without it."""
    neck_appends: bool = False
    """If true, the neck appends maps of ``out_channels`` of ``model`` to those of the backbone."""
    observer: str | None = None
    """Observer of a head that ``kd/observers/heads.py`` does not list; a key of its REQUIRED."""
    flops: DetectorFlops | None = None
    """Published FLOPs, from which the time of trainings is estimated until some are measured."""
    model: dict[str, Any]
    """The detector as mmdet configures it, without backbone and number of classes."""

    @model_validator(mode="after")
    def _fits_together(self) -> "Detector":
        if self.augmentation == "ssd" and self.input_size is None:
            raise ValueError("augmentation 'ssd' stretches images, so 'input_size' must be given")
        if self.maps and len(set(self.maps)) < len(self.maps):
            raise ValueError(f"'maps' must list each map once, not {self.maps}")
        check_declaration(self.model, self.observer)
        return self


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
    """Weights for ``init: imagenet``. A narrower backbone uses their leading channels."""
    imagenet_sliced: bool = True
    """If false, narrower backbones cannot use the weights."""
    imagenet_frozen: dict[str, Any] = {}
    """Further arguments of ``model`` at full width with ``init: imagenet``."""
    gflops: PositiveFloat | None = None
    """Giga multiply-adds of an image of 224 x 224 pixels, at full width."""


class Schedule(Part):
    """A training schedule with linear warm-up and steps: ``configs/schedules/*.yaml``."""

    base: str | None = None
    """Schedule whose settings this one inherits unless it sets them."""
    epochs: PositiveInt
    """Passes over the training images."""
    stop_epoch: PositiveInt | None = None
    """Epoch after which the training ends, with the learning rates of ``epochs``: the weights of an
    unfinished training."""
    milestones: list[PositiveInt]
    """Epochs after which the learning rate is divided by 10."""
    warmup_iters: NonNegativeInt
    """Steps over which the learning rate rises from a thousandth to ``lr``."""
    batch_size: PositiveInt
    """Images of a step, of all GPUs together."""
    lr: PositiveFloat
    """Learning rate of the whole batch."""
    optimizer: Literal["SGD", "AdamW"] = "SGD"
    """SGD in every paper. AdamW learns more in the few steps of the smoke scale."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD; AdamW ignores it."""
    weight_decay: NonNegativeFloat = 0.0001
    """Weight decay of the optimizer."""
    clip_grad: PositiveFloat | None = None
    """Largest norm of the gradient; without it gradients are not clipped."""
    init: Literal["imagenet", "scratch"] = "imagenet"
    """Initial weights of the backbone."""
    norm: Literal["BN", "SyncBN"] = "BN"
    """Normalization of the backbone. ``BN`` is that of the backbone's file, frozen with
    ``init: imagenet``. ``SyncBN`` is trained with the statistics of the whole batch."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of convolutions and matrix products in the forward passes of student and teachers.
    Weights and distillation terms are float32. With float16 the loss is scaled."""
    checkpoint_steps: PositiveInt = 500
    """Steps between checkpoints. Others are written every five minutes and at the end."""

    @model_validator(mode="after")
    def _milestones_within(self) -> "Schedule":
        if self.milestones != sorted(self.milestones) or self.milestones[-1:] > [self.epochs]:
            raise ValueError(
                f"milestones {self.milestones} must rise and lie within {self.epochs} epochs"
            )
        if self.stop_epoch and self.stop_epoch > self.epochs:
            raise ValueError(f"stop_epoch {self.stop_epoch} must lie within {self.epochs} epochs")
        return self


class Classifier(Part):
    """A classifier of objects that teaches detectors (DICOD): ``configs/classifiers/*.yaml``."""

    title: str
    """Name in tables and figures."""
    architecture: str
    """Name of a classifier of torchvision, whose final layer is replaced."""
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


class Checkpoint(Part):
    """Published weights."""

    source: str
    """A file or an address."""
    sha256: str
    """SHA-256 that the file must have."""

    @model_validator(mode="after")
    def _digest_is_hex(self) -> "Checkpoint":
        if len(self.sha256) != 64 or set(self.sha256.lower()) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 hexadecimal digits; `sha256sum FILE` prints them")
        return self


class Pair(Part):
    """A teacher and a student."""

    teacher: str | None = None
    """Backbone of the teacher. Without one, only methods apply that need no teacher detector."""
    student: str
    """Backbone of the student."""
    teacher_detector: str | None = None
    """Detector of the teacher, if not that of the student."""
    checkpoint: Checkpoint | None = None
    """Published weights of the teacher, which is then not trained."""
    teacher_schedule: str | None = None
    """Schedule of the teacher, if not that of the student."""
    classifier: str | None = None
    """Classifier that teaches, in place of the table's."""


class EqualTimeRatio(Part):
    """Length of the control of a table."""

    same_time: Annotated[float, Field(gt=1)]
    """Time of a distilled step, with its teachers, over that of a step of the student alone, as
    ``kd profile`` measures them."""


Baseline = Annotated[
    Annotated[Literal["alone", "same_time"], Tag("(name)")]
    | Annotated[EqualTimeRatio, Tag("(ratio)")],
    Discriminator(lambda value: "(name)" if isinstance(value, str) else "(ratio)"),
]
"""The student alone, or also a control that is trained as long as a distilled student."""


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
    """Rows of one published table: every combination of detectors, pairs and methods."""

    title: str
    """Heading of the table; no two tables of a study have the same."""
    dataset: str
    """Name of the data set."""
    schedule: str | Annotated[list[str], Field(min_length=1)]
    """Name of a schedule; with several, every row is trained with each."""
    seeds: PositiveInt | None = None
    """Number of seeds, in place of the study's."""
    first_seed: NonNegativeInt = 0
    """First of the consecutive seeds. A table with other seeds shows results on which no weight was
    tuned."""
    teacher_seeds: TeacherSeeds | None = None
    """Seeds of the teachers, in place of the study's."""
    detectors: list[str] = Field(min_length=1)
    """Names of the detectors of the students, and of the teachers unless a pair names another."""
    pairs: list[Pair] = Field(min_length=1)
    """Teachers and students. Rows that pairs share, such as a teacher, are printed once."""
    methods: list[str]
    """Names of methods and presets, joined by ``+``."""
    classifiers: dict[Augmentation, str] = {}
    """Classifier teachers by the ``augmentation`` of a detector."""
    baseline: Baseline = "alone"
    """``alone``: the student alone, trained with the schedule. ``same_time``: also a control, the
    student alone trained as long as a distilled one, whose steps take longer because of the
    teachers. The ratio of both is estimated from multiply-adds; ``{same_time: 1.4}`` gives it."""
    published: str | None = None
    """Name of the table in the study's published numbers."""
    settings: dict[str, dict[str, Any]] = {}
    """Settings by method or preset, over their defaults."""
    sweep: dict[str, Sweep] = {}
    """Values of settings by method or preset, with a row for each value."""
    split: Literal["val", "test"] | None = None
    """Split that the rows are measured on: ``val`` or ``test``. The default is ``val`` for a table
    with ``sweep``, because it compares settings, and ``test`` for others. A sweep on a data set
    without ``val`` is measured on ``test``."""

    @property
    def has_control(self) -> bool:
        """True if the table has a control of equal time."""
        return self.baseline != "alone"

    @property
    def time_ratio(self) -> float | None:
        """The given ratio of step times; None if it is estimated."""
        return self.baseline.same_time if isinstance(self.baseline, EqualTimeRatio) else None

    @property
    def schedules(self) -> list[str]:
        return [self.schedule] if isinstance(self.schedule, str) else self.schedule


class PaperFigure(Part):
    """The figure of the paper that a figure of a study makes again."""

    figure: Annotated[str, Field(pattern=FIGURE_PATTERN)]
    """Name in the paper, such as ``Figure 3`` or ``Figure S1`` (of the supplement); ``Qualitative
    figure`` if its number is unknown."""
    picture: str | None = None
    """Picture of the analysis, if it draws several and this is not its first."""
    differs: str = ""
    """Differences from the paper's figure, in a sentence."""


class Figure(Part):
    """An analysis of the rows of a table that have one detector and one pair."""

    analysis: str
    """Name of a folder of ``analysis/figures``."""
    table: str | None = None
    """Key of the table, if not the study's first."""
    detector: str | None = None
    """Detector, if not the table's first."""
    student: str | None = None
    """Student of the pair, if not that of the table's first."""
    rows: Annotated[list[str], Field(min_length=1)] | None = None
    """``teacher``, ``baseline`` and methods in the order of the figure; without it, all rows."""
    settings: dict[str, Any] = {}
    """Settings of the analysis, over its defaults."""
    epoch: PositiveInt | None = None
    """Epoch after which the students' trainings are stopped for this figure; without it the figure
    shows finished students. Teachers are finished. The runs have the schedule's ``stop_epoch``."""
    paper: PaperFigure | None = None
    """The paper's figure that it makes again; ``snakemake paper_figures`` draws these."""


Word = Annotated[str, Field(pattern=NAME_PATTERN)]


class Study(Part):
    """The tables and figures of one paper: ``configs/studies/*.yaml``."""

    title: str
    """Heading of the study's tables and report."""
    source: str
    """Reference of the paper."""
    cite: list[str] = []
    """Keys of the paper and of the data in ``configs/published/references.bib``."""
    published: str | None = None
    """File of ``configs/published`` with the paper's numbers."""
    seeds: PositiveInt = 1
    """Number of seeds of each row: 0, 1, ... or those from a table's ``first_seed`` on."""
    teacher_seeds: TeacherSeeds = "first"
    """``first``: all students learn from one teacher, of seed 0. ``paired``: the student of each
    seed learns from the teacher of the same seed, and intervals include their variation."""
    tables: Annotated[dict[Word, Table], Field(min_length=1)]
    """Tables by key, which names their file of gains."""
    figures: dict[Word, Figure] = {}
    """Figures by key, which names their folder and rule."""
    not_drawn: dict[str, str] = {}
    """Reasons why figures of the paper are not drawn, by their names in the paper."""

    @model_validator(mode="after")
    def _titles_differ(self) -> "Study":
        keys: dict[str, str] = {}
        for key, table in self.tables.items():
            other = keys.setdefault(table.title, key)
            if other != key:
                raise ValueError(
                    f"tables '{other}' and '{key}' have the same title, '{table.title}'; give "
                    f"'{key}' another"
                )
        return self
