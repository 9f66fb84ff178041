"""Distinct trainings of a study, each of which has one rehearsal."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kd.common.files import read_json
from kd.config.run import AnyRun
from kd.resources.rehearsals import RECORD, Rehearsal, folder_of, read_rehearsal, rehearsal_key
from kd.training.launch import FAILURE


@dataclass
class RehearsedTraining:
    """A distinct training of a study: the runs that share it, and its rehearsal."""

    key: str
    first: AnyRun
    runs: list[AnyRun] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The file of its record."""
        return str(folder_of(self.key) / RECORD)

    @property
    def record(self) -> Rehearsal | None:
        """The record of its rehearsal; None if it failed or was not made."""
        return read_rehearsal(self.key)

    @property
    def failure(self) -> str:
        """The reason why its rehearsal failed; empty if it did not."""
        path = folder_of(self.key) / FAILURE
        return read_json(path)["reason"] if path.exists() else ""

    def write_plan(self) -> None:
        """Write the configuration of the first run to the folder of the rehearsal."""
        self.first.write_to(folder_of(self.key))


def distinct_trainings(runs: Iterable[AnyRun]) -> dict[str, RehearsedTraining]:
    """Return the distinct trainings of runs by key, in the order of the runs.

    Runs whose weights are imported are no trainings.
    """
    trainings: dict[str, RehearsedTraining] = {}
    for run in runs:
        if run.composed.published_checkpoint is None:
            key = rehearsal_key(run.config)
            trainings.setdefault(key, RehearsedTraining(key, run)).runs.append(run)
    return trainings


def title_of(identity: dict[str, Any]) -> str:
    """Return the parts of a run that tables name it by, without seed and digest."""
    network = identity.get("student") or identity["classifier"]
    model = f"{identity.get('detector') or 'classifier'}-{network}"
    teacher = (identity.get("teacher") or "").split("/")[3:4]
    method = "_from_".join([identity.get("method") or "alone", *teacher])
    return "/".join((identity["dataset"], identity["schedule"], model, method))
