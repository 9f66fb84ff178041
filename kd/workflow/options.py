"""Options of a workflow: the studies to run, their scale, and resources of jobs."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from kd.common.errors import UserError
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.resources.requests import JobOptions

STUDIES_FOLDER = "studies"
"""Folder of ``configs`` with the studies."""
ALL_STUDIES = "all"
"""Value of ``study`` for every study of the folder."""
LAST_OPTIONS = RESULTS / "workflow.json"
"""Studies, scale, seeds and tables of the workflow that started last."""


class WorkflowOptions(JobOptions):
    """Keys of ``configs/default.yaml`` and ``snakemake --config``."""

    study: str
    """Name of a study, several names with commas between them, or ``all``."""
    scale: str
    """Name of a file in ``configs/scales``."""
    seeds: PositiveInt | None
    """Number of seeds; None for the number that the study or its table sets."""
    tables: Annotated[list[str], Field(min_length=1)] | None
    """Tables of the study to run; None for all of them."""
    val_interval: NonNegativeInt = 1
    """Epochs between two measurements of AP during training; 0 measures AP at the end only."""

    def study_names(self, library: Library) -> list[str]:
        """Return the names of the studies, each once.

        UserError if tables are selected from more than one study.
        """
        names = self.study.split(",")
        if self.study == ALL_STUDIES:
            names = library.names(STUDIES_FOLDER)
        names = list(dict.fromkeys(names))
        if self.tables and len(names) > 1:
            raise UserError(
                f"'tables' of configs/default.yaml and --config selects tables of one study, but "
                f"'study' names {len(names)}: {', '.join(names)}"
            )
        return names


def study_arguments(
    study: str, scale: str, seeds: int | None, tables: Sequence[str] | None
) -> list[str]:
    """Return a study and its selection as arguments of ``kd``."""
    arguments = [study, "--scale", scale, *(["--seeds", str(seeds)] if seeds else [])]
    return [*arguments, *(["--tables", *tables] if tables else [])]
