"""mmengine's backends of trackers, each bound to one run that a resumed training continues."""

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.visualization import MLflowVisBackend, TensorboardVisBackend, WandbVisBackend

from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.common.results import RESULTS

PROJECT = "kd-detection"
"""MLflow experiment and W&B project, unless their environment variables name another."""
IDS = "trackers.json"
"""File of a run's directory with the identifiers of its runs in trackers."""
MLFLOW_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Limits of MLflow's client: a training waits for each request, by default for minutes."""
WANDB_LIMITS = {"WANDB_INIT_TIMEOUT": "30", "WANDB_SILENT": "true"}
MLFLOW_BATCH = 100
"""Parameters that MLflow accepts at once."""
LONGEST_VALUE = 500
"""Characters of a parameter in MLflow; longer values are cut."""


class TrackedRun(NamedTuple):
    """A run as trackers show it."""

    directory: Path
    name: str
    parameters: dict[str, Any]
    tags: dict[str, str]
    resumed: bool
    """True if training resumes from a checkpoint, so the tracker's run continues."""

    def identifier(self, tracker: str) -> str | None:
        """Return the identifier of the run in a tracker, None for a new one."""
        path = self.directory / IDS
        return read_json(path).get(tracker) if self.resumed and path.exists() else None

    def record(self, tracker: str, identifier: str) -> None:
        """Write the identifier of the run in a tracker."""
        path = self.directory / IDS
        others = read_json(path) if path.exists() else {}
        write_json(path, others | {tracker: identifier})


def tensorboard(run: TrackedRun) -> Any:
    """Return a backend that writes to the folder ``tensorboard`` in the run's directory.

    Each start of a training replaces the folder, so the last seconds of a killed one are not lost.
    """
    folder = run.directory / "tensorboard"
    shutil.rmtree(folder, ignore_errors=True)
    backend = TensorboardVisBackend(str(folder))
    backend.experiment.add_text("parameters", _table(run.parameters))
    backend.experiment.add_text("tags", _table(run.tags))
    return backend


def _table(values: Mapping[str, Any]) -> str:
    """Return a Markdown table, which TensorBoard draws."""
    rows = [f"| {key} | {value} |" for key, value in values.items()]
    return "\n".join(["| name | value |", "|---|---|", *rows])


class _MLflow(MLflowVisBackend):
    """mmengine's backend in the run that ``start`` began; the base class starts another one."""

    def start(self, run: TrackedRun) -> "_MLflow":
        import mlflow

        for name, value in MLFLOW_LIMITS.items():
            os.environ.setdefault(name, value)
        if "MLFLOW_TRACKING_URI" not in os.environ:
            RESULTS.mkdir(exist_ok=True)
            mlflow.set_tracking_uri(f"sqlite:///{(RESULTS / 'mlflow.db').resolve()}")
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
        identifier = run.identifier("mlflow")
        started = mlflow.start_run(identifier, run_name=run.name, tags=run.tags)
        run.record("mlflow", started.info.run_id)
        if identifier is None:
            texts = {key: str(value)[:LONGEST_VALUE] for key, value in run.parameters.items()}
            items = [*texts.items()]
            for first in range(0, len(items), MLFLOW_BATCH):
                mlflow.log_params(dict(items[first : first + MLFLOW_BATCH]))
        self._mlflow, self._env_initialized = mlflow, True
        return self

    def close(self) -> None:
        if self._mlflow.active_run():
            self._mlflow.end_run()


def mlflow(run: TrackedRun) -> Any:
    """Return a backend for ``MLFLOW_TRACKING_URI``, by default ``results/mlflow.db``."""
    return _MLflow(str(run.directory)).start(run)


class _Wandb(WandbVisBackend):
    """mmengine's backend with the step of each value, which the base class leaves out."""

    def add_scalars(
        self, scalar_dict: Mapping[str, float], step: int = 0, *_: Any, **__: Any
    ) -> None:
        self.experiment.log(dict(scalar_dict), step=step)

    def close(self) -> None:
        self.experiment.finish()


def _require_key() -> None:
    """Raise UserError without a key of W&B: on a terminal W&B would wait for an answer."""
    from wandb import login

    if os.environ.get("WANDB_MODE", "online") in ("online", "run") and not login(prompt=False):
        raise UserError("no key of W&B; run `wandb login`, or set WANDB_MODE=offline")


def wandb(run: TrackedRun) -> Any:
    """Return a backend for W&B, or for the folder ``wandb`` with ``WANDB_MODE=offline``."""
    for name, value in WANDB_LIMITS.items():
        os.environ.setdefault(name, value)
    _require_key()
    identifier = run.identifier("wandb") or uuid.uuid4().hex[:12]
    backend = _Wandb(
        str(run.directory),
        init_kwargs={
            "project": os.environ.get("WANDB_PROJECT", PROJECT),
            "name": run.name,
            "id": identifier,
            "resume": "allow",
            "config": run.parameters,
            "tags": [f"{key}:{value}"[:64] for key, value in run.tags.items()],
        },
    )
    run.record("wandb", identifier)
    backend.experiment  # noqa: B018, starts W&B's run
    return backend


BACKENDS: dict[str, Callable[[TrackedRun], Any]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}
