"""Parts of a study: the model of ``configs/studies/*.yaml`` and of the blocks in it.

The docstring below a field is the reference of its key.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    model_validator,
)

from kd.common.schema import FIGURE_PATTERN, NAME_PATTERN, Part
from kd.config.parts import Augmentation

TeacherSeeds = Literal["first", "paired"]
TeacherSource = Literal["trained", "zoo", "zoo_any_lr"]


class Checkpoint(Part):
    """Published weights: ``zoo``, or ``source`` and ``sha256``."""

    zoo: str | None = None
    """Name of a detector of mmdet's model zoo; docs/reference/zoo.md lists them."""
    source: str | None = None
    """A file or an address."""
    sha256: str | None = None
    """SHA-256 that the file must have, or its first digits: names of mmdet's files end with 8."""
    without: list[str] = []
    """Beginnings of the names of weights that are left out, such as ``roi_head.mask_head.``: a
    Mask R-CNN without its mask branch is a Faster R-CNN."""

    @model_validator(mode="after")
    def _is_complete(self) -> "Checkpoint":
        if self.source is None or self.sha256 is None:
            if self.zoo is None or self.source or self.sha256 or self.without:
                raise ValueError("give 'source' and 'sha256', or 'zoo' alone")
            return self
        if not re.fullmatch(r"[0-9a-fA-F]{8,64}", self.sha256):
            raise ValueError(
                "sha256 must be 64 hexadecimal digits, or at least the first 8; `sha256sum FILE` "
                "prints them"
            )
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
    """Published weights of the teacher, which is then not trained (unless ``checkpoints`` of the
    scale is false)."""
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
    source: str | None = None
    """Reference of the paper; none for a study of your data."""
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
    detectors: dict[str, dict[str, Any]] = {}
    """Changes that are merged into a detector's ``model``, over those of the scale: the smallest
    anchors and the levels that fit the objects of your data. ``kd start`` proposes them."""
    input_sizes: dict[str, PositiveInt] = {}
    """Replacements for the ``input_size`` of detectors that have one, over those of the scale."""
    figures: dict[Word, Figure] = {}
    """Figures by key, which names their folder and rule."""
    not_drawn: dict[str, str] = {}
    """Reasons why figures of the paper are not drawn, by their names in the paper."""

    @model_validator(mode="after")
    def _papers_are_named(self) -> "Study":
        of_paper = self.published or any(figure.paper for figure in self.figures.values())
        if of_paper and self.source is None:
            raise ValueError("'source' is missing: the study has numbers or figures of a paper")
        return self

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
