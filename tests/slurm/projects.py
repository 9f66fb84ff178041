"""Projects for the test cluster: plain commands, and trainings of a tiny detector."""

import contextlib
import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kd.config.library import Library
from kd.config.plan import plan
from kd.models import weights
from tests.support.paths import REPOSITORY
from tests.support.tiny import STUDENT, edit, make_project

PLAIN = Path(__file__).parent / "plain"
TINY = ["--snakefile", str(REPOSITORY / "Snakefile"), "--config", "study=tiny", "scale=tiny"]
TINY += ["val_interval=10"]
"""Arguments that make Snakemake run the project's workflow on the tiny study."""


class Plain:
    """A project whose ``config.json`` sets what each job does."""

    def __init__(self, folder: Path, **jobs: dict[str, Any]) -> None:
        shutil.copytree(PLAIN, folder, dirs_exist_ok=True)
        self.folder = folder
        self.change(**jobs)

    def change(self, **jobs: dict[str, Any]) -> None:
        """Change what some jobs do."""
        path = self.folder / "config.json"
        previous = json.loads(path.read_text())["jobs"] if path.exists() else {}
        path.write_text(json.dumps({"jobs": {**previous, **jobs}}))

    def go(self) -> None:
        """Let waiting jobs continue."""
        (self.folder / "go").touch()

    def history(self, name: str) -> list[str]:
        """Return the events of a job, ``start`` and ``end`` for each run."""
        path = self.folder / "history" / name
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def histories(self) -> list[list[str]]:
        """Events of each job."""
        return [self.history(path.name) for path in (self.folder / "history").glob("*")]

    def finished(self, name: str) -> bool:
        """Return True if a job has created its output."""
        return (self.folder / "out" / f"{name}.txt").exists()


class Training:
    """The tiny study with data, and the training of its baseline for a number of steps."""

    STEPS_PER_EPOCH = 6

    def __init__(
        self, folder: Path, steps: int, *settings: str, checkpoint_steps: int = 500
    ) -> None:
        make_project(folder)
        self.folder, self.settings = folder, settings
        epochs = steps // self.STEPS_PER_EPOCH
        edit(
            folder / "configs/schedules/tiny.yaml",
            epochs=epochs,
            milestones=[epochs - 1],
            checkpoint_steps=checkpoint_steps,
        )
        runs = plan("tiny", "tiny", Library(folder / "configs")).runs
        (run,) = (run for name, run in runs.items() if STUDENT in name)
        self.planned = run
        self.target, self.run = f"{run.directory}/weights.pth", folder / run.directory
        self.log = self.run / "log.jsonl"

    def write(self) -> None:
        """Write the files that ``kd train`` reads, as the workflow does at its start."""
        with contextlib.chdir(self.folder):
            self.planned.write()

    @property
    def step(self) -> int:
        """Last step in the log."""
        try:
            return json.loads(self.log.read_text().splitlines()[-1])["step"]
        except (OSError, ValueError, IndexError):
            return 0

    @property
    def printed(self) -> str:
        """Output of all starts of the training."""
        path = self.run / "train.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def resumed_at(self) -> list[int]:
        """Steps at which the training resumed, one per interruption."""
        return [int(step) for step in re.findall(r"resuming at step (\d+) of", self.printed)]

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.run / "checkpoints").glob("*"))

    @cache  # noqa: B019 - the weights are few and small
    def weights(self) -> dict[str, torch.Tensor]:
        """Return the final weights."""
        return weights.read_state(self.run / "weights.pth")

    def ends_like(self, other: "Training") -> bool:
        """Return True if both trainings have bit-identical weights."""
        weights, others = self.weights(), other.weights()
        return weights.keys() == others.keys() and all(
            torch.equal(value, others[name]) for name, value in weights.items()
        )
