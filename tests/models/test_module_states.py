"""Heads that refine boxes or depend on the epoch or earlier steps, resumed in each epoch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kd.models import weights
from kd.training.module_states import load_training_states, set_epoch, training_states
from kd.training.train import train
from tests.support.tiny import copy_run
from tests.support.training import assert_same, change, checkpoints, interrupted_before

STEPS = 10


@pytest.fixture
def run(study: Any) -> Any:
    """Return a function that writes a student's run of two epochs of five steps."""

    def written(family: str, initial_epoch: int | None = None) -> Path:
        plan = study([], detectors=(family,))
        directory = next(run for run in plan.runs.values() if run.student == "r18-w0.125")
        directory.write()

        def edit(config: dict[str, Any]) -> None:
            config["train_cfg"]["max_epochs"] = 2
            if initial_epoch is not None:
                config["model"]["train_cfg"]["initial_epoch"] = initial_epoch
            record_every_step(config)

        change(directory.directory, edit)
        return directory.directory

    return written


@pytest.mark.parametrize("family", ["tood", "ddod", "vfnet", "reppoints"])
@pytest.mark.parametrize("step", [3, 7], ids=["in the first epoch", "in the second"])
def test_a_resumed_run_ends_with_the_weights_of_a_whole_run(
    run: Any, family: str, step: int
) -> None:
    whole = run(family, initial_epoch=1 if family == "tood" else None)
    interrupted = copy_run(whole, "interrupted")
    train(whole)
    with interrupted_before(step):
        train(interrupted)
    assert checkpoints(interrupted)[-1] == f"step{step:08d}.pth"
    train(interrupted)
    assert_same(interrupted, whole)


def record_every_step(config: dict[str, Any]) -> None:
    for hook in config["custom_hooks"]:
        hook.update({"Checkpoints": {"steps": 1}, "StepLog": {"interval": 1}}.get(hook["type"], {}))


def test_the_assigner_of_tood_changes_after_its_initial_epochs(run: Any) -> None:
    """Two runs are equal up to the epoch in which one of them changes its assigner."""
    first = run("tood", initial_epoch=1)
    second = copy_run(first, "second")
    change(second, lambda config: config["model"]["train_cfg"].update(initial_epoch=2))
    for directory in (first, second):
        train(directory)
    losses = [
        [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
        for directory in (first, second)
    ]
    same = {
        mine["step"]: mine["loss_cls"] == other["loss_cls"]
        for mine, other in zip(*losses, strict=True)
    }
    assert all(equal for step, equal in same.items() if step <= STEPS // 2)
    assert len(same) == STEPS and not same[STEPS]


def test_checkpoints_hold_the_counts_of_ddod_and_weights_do_not(run: Any) -> None:
    directory = run("ddod")
    train(directory)
    newest = weights.read(directory / "checkpoints" / checkpoints(directory)[-1])
    (counts,) = newest["modules"].values()
    assert newest["modules"].keys() == {"bbox_head"}
    assert len(counts) == 5 and sum(counts) > 0
    state = weights.read_state(directory / "weights.pth")
    assert all(isinstance(value, torch.Tensor) for value in state.values())


class Counting(nn.Module):
    """Module with an epoch and a state."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch, self.count = 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def training_state(self) -> int:
        return self.count

    def load_training_state(self, state: int) -> None:
        self.count = state


def test_states_and_epochs_of_all_modules() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Sequential(Counting()))
    assert training_states(nn.ReLU()) == {}
    set_epoch(model, 3)
    assert model[1][0].epoch == 3
    load_training_states(model, {"1.0": 7})
    assert training_states(model) == {"1.0": 7}
    load_training_states(model, {})
    assert model[1][0].count == 7
