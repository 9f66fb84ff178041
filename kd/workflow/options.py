"""Options of a workflow: the studies to run, their scale, and resources of jobs."""

from pydantic import NonNegativeInt

from kd.common.errors import UserError
from kd.common.lists import split_list
from kd.common.results import RESULTS
from kd.config.library import Library
from kd.config.selection import Names, StudyOptions
from kd.resources.requests import JobOptions, RehearsalOptions

STUDIES_FOLDER = "studies"
"""Folder of ``configs`` with the studies."""
ALL_STUDIES = "all"
"""Value of ``study`` for every study of the folder."""
LAST_OPTIONS = RESULTS / "workflow.json"
"""Studies, scale and selection of the workflow that started last."""


class WorkflowOptions(StudyOptions, JobOptions, RehearsalOptions):
    """Keys of ``configs/default.yaml`` and ``snakemake --config``."""

    study: str
    """Name of a study, several names with commas between them, or ``all``."""
    scale: str
    """Name of a file in ``configs/scales``."""
    val_interval: NonNegativeInt = 1
    """Epochs between two measurements of AP during training; 0 measures AP at the end only."""
    trackers: Names = None
    """Trackers that show losses, learning rate and AP of trainings: ``tensorboard``, ``mlflow``,
    ``wandb`` (docs/how-to/track.md); null for none. They change no run."""

    def study_names(self, library: Library) -> list[str]:
        """Return the names of the studies, each once.

        UserError if tables or rows are selected from more than one study.
        """
        names = split_list(self.study) or [self.study]
        if self.study == ALL_STUDIES:
            names = library.names(STUDIES_FOLDER)
        names = list(dict.fromkeys(names))
        if self.selection and len(names) > 1:
            raise UserError(
                f"'{next(iter(self.selection))}' of configs/default.yaml and --config selects from "
                f"one study, but 'study' names {len(names)}: {', '.join(names)}"
            )
        return names


def study_arguments(study: str, scale: str, options: StudyOptions) -> list[str]:
    """Return a study, its scale and its options as arguments of ``kd``."""
    texts = {f"--{key.replace('_', '-')}": text for key, text in _texts(options).items()}
    return [study, "--scale", scale, *(word for item in texts.items() for word in item)]


def study_config(study: str, scale: str, options: StudyOptions) -> list[str]:
    """Return a study, its scale and its options as arguments of ``snakemake``."""
    values = {"study": study, "scale": scale} | _texts(options)
    return ["--config", *(f"{key}={text}" for key, text in values.items())]


def _texts(options: StudyOptions) -> dict[str, str]:
    """Return the values of the options by key, without defaults."""
    fields = StudyOptions.model_fields
    values = {key: getattr(options, key) for key in fields}
    return {
        key: ",".join(value) if isinstance(value, list) else str(value)
        for key, value in values.items()
        if value != fields[key].default
    }
