"""Claims of a study: published rows with the command, the condition and the time of each."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.runs.titles import backbone_name, teacher_name
from analysis.statistics.verdicts import PAPER, conditions
from analysis.tables.claims.effort import Effort, devices_of, effort_of
from analysis.tables.formatting import number
from analysis.tables.rows import ResultRow
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, Row, plan
from kd.config.selection import StudyOptions
from kd.workflow.budget import budget_of
from kd.workflow.budget_text import trainings_of
from kd.workflow.options import study_config

SEEDS = 3
"""Seeds of a claim if the study plans one, which has no interval and hence no verdict."""


@dataclass(frozen=True)
class Claim:
    """A published number of a compared row, with what it takes to reproduce it."""

    row: ResultRow
    """The row with our results at the scale that ran."""
    study: str
    networks: str
    """Published teachers and student, also where the scale that ran has stand-ins for them."""
    options: StudyOptions
    """Selection of the row and number of seeds, at the scale of the paper."""
    effort: Effort | None
    """Time at the scale of the paper; None if that scale cannot run in this project."""

    @property
    def command(self) -> str:
        """The command that trains and measures the row, its baseline and its teachers."""
        return shlex.join(["snakemake", *study_config(self.study, PAPER, self.options)])

    @property
    def has_verdict(self) -> bool:
        """True if our interval can give the claim a verdict."""
        return not self.row.differs and self.row.published_gain is not None

    @property
    def condition(self) -> str:
        """Each verdict with its condition on our interval; empty without a published gain."""
        if self.row.published_gain is None:
            return ""
        texts = conditions(self.row.published_gain)
        return "; ".join(f"{verdict}: {text}" for verdict, text in texts.items())

    @property
    def title(self) -> str:
        """Method, detector, teachers and student."""
        return f"{self.row.label} on {self.row.group}, {self.networks}"

    @property
    def published(self) -> str:
        """The published metric, with the gain if there is one."""
        level, gain = self.row.published[self.row.metric], self.row.published_gain
        return number(level) + ("" if gain is None else f" ({number(gain, signed=True)})")


def is_claim(row: Row) -> bool:
    """Return True for a compared row whose headline metric is published."""
    return row.compared and row.metric in row.published


def claims_of(
    study_plan: Plan, study: str, rows: Sequence[ResultRow], library: Library
) -> list[Claim]:
    """Return the claims among the rows of a plan; ``rows``: its results, in its order."""
    options = _options(study_plan)
    pairs = zip(rows, study_plan.rows, strict=True)
    claimed = [(row, planned) for row, planned in pairs if is_claim(planned)]
    if not claimed:
        return []
    efforts = _efforts(study, options, library)
    return [
        Claim(
            row,
            study,
            _networks(planned, library),
            options.model_copy(update={"rows": [planned.key]}),
            efforts.get(planned.key),
        )
        for row, planned in claimed
    ]


def trainings(row: Row) -> list[str]:
    """Return the names of the trainings of a row, of its baseline and of its teachers."""
    return [*trainings_of([row]), *(run.name for run in row.baselines.values())]


def _networks(row: Row, library: Library) -> str:
    names = (teacher_name(row, library), backbone_name(row.student, library))
    return " to ".join(filter(None, names))


def _options(study_plan: Plan) -> StudyOptions:
    """Return the seeds and teachers of a plan, without its selection and changed schedules."""
    options = study_plan.options
    fewest = min((len(row.runs) for row in study_plan.rows if row.compared), default=SEEDS)
    return StudyOptions(
        seeds=options.seeds if fewest > 1 else SEEDS,
        teacher_seeds=options.teacher_seeds,
        teachers=options.teachers,
    )


def _efforts(study: str, options: StudyOptions, library: Library) -> dict[str, Effort]:
    """Return the effort of each claim of a study at the scale of the paper, by key.

    Return none if that scale cannot be planned, for example with a number of GPUs that fits only
    another scale: a table must not depend on it.
    """
    try:
        whole = plan(study, PAPER, library, options)
        budget = budget_of(whole, library)
    except UserError:
        return {}
    devices = devices_of(whole, budget)
    return {
        row.key: effort_of(trainings(row), budget, devices) for row in whole.rows if is_claim(row)
    }
