"""Check that compared runs used the same data and teacher weights, by their records."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from kd.common.files import read_json
from kd.common.results import results_folder
from kd.data.entry import SplitName
from kd.data.fingerprint import last_fingerprints
from kd.records import inputs

OTHER_DATA = "trained on other data than its baseline or its other seeds"
OLD_DATA = "trained on an older version of the data set"
OTHER_TEACHER = "distilled from older weights: its teacher was trained again since"
OTHER_TEST = "evaluated on another version of the split than its baseline or its other seeds"
OLD_TEST = "evaluated on an older version of the split"
OLD_WEIGHTS = "evaluated with older weights: the run was trained again since"
OLD_CONFIGURATION = "trained with an older configuration of the run"
NO_RECORD = "trained by a version that did not record data, teacher and configuration"


def mismatches(
    runs: Iterable[Path], baselines: Iterable[Path], split: SplitName = "test"
) -> list[str]:
    """Return the reasons why the results of runs and of their baselines cannot be compared.

    A run without any record yet counts as comparable.
    """
    students = [_RunRecords(run, split) for run in runs]
    compared = [*students, *(_RunRecords(run, split) for run in baselines)]
    problems = chain(
        [OTHER_DATA] if _conflict(record.trained.get("data") for record in compared) else [],
        [OTHER_TEST] if _conflict(record.evaluated.get("data") for record in compared) else [],
        *(record.problems() for record in students),
    )
    return list(dict.fromkeys(problems))


class _RunRecords:
    """The records of a run's training and evaluation on a split; a missing one is empty."""

    def __init__(self, run: Path, split: SplitName) -> None:
        self.split = split
        self.provenance = _read_or_empty(run / "provenance.json")
        self.trained: inputs.Inputs = self.provenance.get("inputs", {})
        self.evaluated = inputs.recorded(results_folder(run, split), "evaluation")
        config = _read_or_empty(run / "config.json")
        self.configuration = inputs.config_digest(config) if config else None
        dataset = _read_or_empty(run / "run.json").get("dataset")
        self.current = last_fingerprints(dataset) if dataset else {}

    def problems(self) -> Iterator[str]:
        """Yield the differences to the present teacher, data, configuration and weights."""
        if self.provenance and "inputs" not in self.provenance:
            yield NO_RECORD
        if any(map(self._has_outdated_teacher, inputs.TEACHERS)):
            yield OTHER_TEACHER
        if _conflict([self.trained.get("configuration"), self.configuration]):
            yield OLD_CONFIGURATION
        if _conflict([self.trained.get("data"), self.current.get("train")]):
            yield OLD_DATA
        if _conflict([self.evaluated.get("data"), self.current.get(self.split)]):
            yield OLD_TEST
        if _conflict([self.evaluated.get("weights"), self.provenance.get("weights_sha256")]):
            yield OLD_WEIGHTS

    def _has_outdated_teacher(self, kind: str) -> bool:
        if kind not in self.provenance:
            return False
        teacher = _read_or_empty(Path(self.provenance[kind]).parent / "provenance.json")
        return _conflict([self.trained.get(kind), teacher.get("weights_sha256")])


def _conflict(values: Iterable[Any]) -> bool:
    """Return True if the values, missing ones aside, are not all equal."""
    return len({value for value in values if value}) > 1


def _read_or_empty(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
