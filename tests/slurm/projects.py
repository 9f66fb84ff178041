"""Projects for the cluster: plain commands, and trainings of a tiny detector."""

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch

from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import plan
from kd.models import weights
from tests.support.paths import REPOSITORY
from tests.support.tiny import STUDENT, edit, make_project

PLAIN = Path(__file__).parent / "plain"
TINY = ["--snakefile", str(REPOSITORY / "Snakefile"), "--config", "study=tiny", "scale=tiny"]
TINY += ["val_interval=10"]
"""What makes a Snakemake command one of the real workflow, on the tiny study; an epoch is short."""


class Plain:
    """A project whose jobs do what its ``config.json`` says."""

    def __init__(self, folder: Path, **jobs: dict[str, Any]) -> None:
        shutil.copytree(PLAIN, folder, dirs_exist_ok=True)
        self.folder = folder
        self.change(**jobs)

    def change(self, **jobs: dict[str, Any]) -> None:
        """Say what some jobs do from now on."""
        path = self.folder / "config.json"
        known = json.loads(path.read_text())["jobs"] if path.exists() else {}
        path.write_text(json.dumps({"jobs": {**known, **jobs}}))

    def go(self) -> None:
        """Let the waiting jobs end."""
        (self.folder / "go").touch()

    def history(self, name: str) -> list[str]:
        """Return what a job noted: ``start`` and ``end``, once for each time it ran."""
        path = self.folder / "history" / name
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def histories(self) -> list[list[str]]:
        """What each job noted."""
        return [self.history(path.name) for path in (self.folder / "history").glob("*")]

    def finished(self, name: str) -> bool:
        """Return whether a job has made its output."""
        return (self.folder / "out" / f"{name}.txt").exists()


class Training:
    """The tiny study with data, and its student alone, which makes a given number of steps."""

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
        self.target, self.run = f"{run.directory}/weights.pth", folder / run.directory
        self.log, self.config = self.run / "log.jsonl", run.config

    def write(self) -> None:
        """Write what ``kd train`` needs, as the workflow does when it starts."""
        write_json(self.run / "config.json", self.config)

    @property
    def step(self) -> int:
        """The newest step in the log."""
        try:
            return json.loads(self.log.read_text().splitlines()[-1])["step"]
        except (OSError, ValueError, IndexError):
            return 0

    @property
    def printed(self) -> str:
        """What it printed, at every start."""
        path = self.run / "train.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def resumed_at(self) -> list[int]:
        """The steps at which it went on, one for each time it was cut."""
        return [int(step) for step in re.findall(r"resuming at step (\d+) of", self.printed)]

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.run / "checkpoints").glob("*"))

    @cache  # noqa: B019 - few and small
    def weights(self) -> dict[str, torch.Tensor]:
        """Return the final weights."""
        return weights.read_state(self.run / "weights.pth")

    def ends_like(self, other: "Training") -> bool:
        """Return whether both ended in the same weights."""
        mine, theirs = self.weights(), other.weights()
        return mine.keys() == theirs.keys() and all(
            torch.equal(value, theirs[name]) for name, value in mine.items()
        )
