"""Check by their own records that the runs of a table's row can be compared."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from kd.common.files import read_json
from kd.data.fingerprint import last_fingerprints
from kd.records import inputs

OTHER_DATA = "trained on other data than its baseline or its other seeds"
OLD_DATA = "trained on other data than the data set holds now"
OTHER_TEACHER = "taught by other weights than its teacher has now, which was trained again since"
OTHER_TEST = "evaluated on another test split than its baseline or its other seeds"
OLD_TEST = "evaluated on another test split than the data set holds now"
OLD_WEIGHTS = "evaluated with other weights than the run has now, which was trained again since"
OLD_CONFIGURATION = "trained with another configuration than the run has now"
NO_RECORD = "trained by a version that did not record what its weights depend on"


def mismatches(runs: Iterable[Path], baselines: Iterable[Path]) -> list[str]:
    """Return in words why runs, or they and their baselines, cannot be compared.

    A run without any record yet counts as comparable.
    """
    distilled = [_Record(run) for run in runs]
    compared = [*distilled, *map(_Record, baselines)]
    problems = chain(
        [OTHER_DATA] if _differ(record.trained.get("data") for record in compared) else [],
        [OTHER_TEST] if _differ(record.evaluated.get("data") for record in compared) else [],
        *(record.problems() for record in distilled),
    )
    return list(dict.fromkeys(problems))


class _Record:
    """The records of a run's training and evaluation, empty where there is none."""

    def __init__(self, run: Path) -> None:
        self.provenance = _content(run / "provenance.json")
        self.trained: inputs.Inputs = self.provenance.get("inputs", {})
        self.evaluated = inputs.recorded(run, "evaluation")
        config = _content(run / "config.json")
        self.configuration = inputs.config_digest(config) if config else None
        dataset = _content(run / "run.json").get("dataset")
        self.current = last_fingerprints(dataset) if dataset else {}

    def problems(self) -> Iterator[str]:
        """Yield what sets the run apart from its teacher, its data and its own weights."""
        if self.provenance and "inputs" not in self.provenance:
            yield NO_RECORD
        if any(map(self._was_taught_by_others, inputs.TEACHERS)):
            yield OTHER_TEACHER
        if _differ([self.trained.get("configuration"), self.configuration]):
            yield OLD_CONFIGURATION
        if _differ([self.trained.get("data"), self.current.get("train")]):
            yield OLD_DATA
        if _differ([self.evaluated.get("data"), self.current.get("test")]):
            yield OLD_TEST
        if _differ([self.evaluated.get("weights"), self.provenance.get("weights_sha256")]):
            yield OLD_WEIGHTS

    def _was_taught_by_others(self, kind: str) -> bool:
        if kind not in self.provenance:
            return False
        teacher = _content(Path(self.provenance[kind]).parent / "provenance.json")
        return _differ([self.trained.get(kind), teacher.get("weights_sha256")])


def _differ(values: Iterable[Any]) -> bool:
    """Return whether the values that are known are not all the same."""
    return len({value for value in values if value}) > 1


def _content(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
