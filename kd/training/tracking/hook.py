"""Hook that shows the logs of a training in trackers."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from kd.common.files import read_json
from kd.common.results import RESULTS
from kd.config.composed import ComposedConfig
from kd.training.loop import run_directory
from kd.training.tracking.backends import BACKENDS, TrackedRun
from kd.training.validation import FILE as VALIDATION

logger = logging.getLogger(__name__)

NOT_PARAMETERS = ("train_dataloader", "val_dataloader", "test_dataloader", "custom_imports")
"""Keys of a configuration with pipelines and paths of data, which trackers do not show."""
LOG = "log.jsonl"
NOT_SCALARS = ("step", "steps", "split")


class Tracking(Hook):
    """Hook that passes each record of ``log.jsonl`` and ``validation.jsonl`` to trackers.

    The main process alone tracks. A tracker that fails is left out with one warning; the training
    continues. ``tags`` are added to those of the run's parts. A resumed training continues the
    tracker's run; a tracker that has none of it is given the records of the earlier steps first.
    """

    priority = "HIGH"
    """Before ``Validation``, which may measure an epoch when a training resumes."""

    def __init__(self, trackers: Sequence[str], tags: Mapping[str, str]) -> None:
        self.trackers, self.tags = tuple(trackers), dict(tags)
        self.backends: dict[str, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Start or continue the run in each tracker."""
        if not is_main_process():
            return
        directory = run_directory(runner)
        run = tracked_run(directory, self.tags, resumed=runner.iter > 0)
        for name in self.trackers:
            with self._guarded(name):
                is_new = run.identifier(name) is None
                backend = self.backends[name] = BACKENDS[name](run)
                for values, step in history(directory, runner.iter) if is_new else ():
                    backend.add_scalars(values, step=step)

    def after_log(self, runner: Runner, record: dict[str, Any]) -> None:
        """Show a record of ``log.jsonl``."""
        self._show("train", record)

    def after_validation(self, runner: Runner, record: dict[str, Any]) -> None:
        """Show a record of ``validation.jsonl``."""
        self._show(record["split"], record)

    def close(self) -> None:
        """End the run in each tracker."""
        for name, backend in list(self.backends.items()):
            with self._guarded(name):
                backend.close()
        self.backends.clear()

    def _show(self, group: str, record: dict[str, Any]) -> None:
        values = scalars(record, group)
        for name, backend in list(self.backends.items()):
            with self._guarded(name):
                backend.add_scalars(values, step=record["step"])

    @contextmanager
    def _guarded(self, name: str) -> Iterator[None]:
        """Warn of any failure of a tracker, and use it no more."""
        try:
            yield
        except Exception as error:
            self.backends.pop(name, None)
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
            logger.warning(
                "tracker '%s' failed and is off until training starts again; log.jsonl has all "
                "values: %s",
                name,
                reason,
            )


def history(directory: Path, last: int) -> list[tuple[dict[str, float], int]]:
    """Return the values and step of each record up to the step ``last``, in the order of steps."""
    records = []
    for name in (LOG, VALIDATION):
        path = directory / name
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        records += [json.loads(line) for line in lines]
    return [
        (scalars(record, record.get("split", "train")), record["step"])
        for record in sorted(records, key=lambda record: record["step"])
        if record["step"] <= last
    ]


@contextmanager
def closing(tracking: Tracking | None) -> Iterator[None]:
    """End the runs in trackers when the training ends, stops or fails."""
    try:
        yield
    finally:
        if tracking:
            tracking.close()


def tracked_run(directory: Path, tags: Mapping[str, str], resumed: bool) -> TrackedRun:
    """Return a run as trackers show it: its name, parts and settings."""
    path = directory / "run.json"
    parts = read_json(path) if path.exists() else {}
    parts = {key: value for key, value in parts.items() if value is not None}
    settings = ComposedConfig.read(directory).settings
    settings_without_data = {
        key: value for key, value in settings.items() if key not in NOT_PARAMETERS
    }
    composed = ComposedConfig(settings)
    sizes = ["x".join(map(str, size)) for size in composed.image_sizes("train")]
    return TrackedRun(
        directory=directory,
        name=_name(directory),
        parameters={
            **parts,
            "batch_size": composed.batch_size,
            "epochs": composed.epochs,
            "image_size": " ".join(dict.fromkeys(sizes)),
            **flat(settings_without_data),
        },
        tags={**{key: str(value) for key, value in parts.items()}, **tags},
        resumed=resumed,
    )


def _name(directory: Path) -> str:
    """Return the directory below ``results/runs``, or its last part elsewhere."""
    for folder in ("runs", "classifiers"):
        root = (RESULTS / folder).resolve()
        if directory.resolve().is_relative_to(root):
            return str(directory.resolve().relative_to(root))
    return directory.name


def scalars(record: Mapping[str, Any], group: str) -> dict[str, float]:
    """Return the finite numbers of a record by name, such as ``train/share/pfi``."""
    values = {key: value for key, value in record.items() if key not in NOT_SCALARS}
    return {
        f"{group}/{key}": float(value)
        for key, value in flat(values, "/").items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def flat(value: Any, separator: str = ".") -> dict[str, Any]:
    """Return the values of nested dicts and lists of them by path; short lists are one value."""
    leaves: dict[str, Any] = {}
    _flatten(value, "", separator, lambda key, leaf: leaves.__setitem__(key, leaf))
    return leaves


def _flatten(value: Any, path: str, separator: str, add: Callable[[str, Any], None]) -> None:
    nested = isinstance(value, Mapping)
    if isinstance(value, list) and (separator == "/" or any(isinstance(v, dict) for v in value)):
        value, nested = {str(index): item for index, item in enumerate(value)}, True
    if not nested:
        add(path, value)
        return
    for key, item in value.items():
        _flatten(item, f"{path}{separator}{key}" if path else str(key), separator, add)
