"""Averaged weights: mmdet's values, bit-exact resume, and what is saved, measured and taught."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from torch import nn

import kd.runtime  # noqa: F401
from kd.models import weights
from kd.training.averaging import AverageWeights, averaged
from kd.training.train import train
from tests.support.tiny import DISTILLED, STUDENT, copy_run, edit, write_run
from tests.support.training import (
    assert_same,
    interrupted_before,
    log,
    project_with_teacher,
    train_in_two_processes,
)


class Network(nn.Module):
    """Layers with weights, statistics and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layers(inputs)


def fake_runner(model: nn.Module, *hooks: Any) -> Any:
    return SimpleNamespace(model=model, iter=0, hooks=hooks)


def bits(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in state.values()])


def test_the_average_is_that_of_mmdet() -> None:
    torch.manual_seed(0)
    model, hook = Network(), AverageWeights(0.01)
    runner = fake_runner(model, hook)
    hook.before_run(runner)
    theirs = ExpMomentumEMA(model, momentum=0.01, update_buffers=True)
    for step in range(20):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value))
        model(torch.randn(6, 5))
        runner.iter = step
        hook.after_train_iter(runner, step)
        theirs.update_parameters(model)
    assert torch.equal(bits(hook.average), bits(theirs.module.state_dict()))
    assert not torch.equal(bits(hook.average), bits(model.state_dict()))


def test_the_average_by_hand() -> None:
    model, hook = nn.Linear(1, 1, bias=False), AverageWeights(0.5)
    runner = fake_runner(model, hook)
    hook.before_run(runner)
    for step, value in enumerate((2.0, 4.0)):
        nn.init.constant_(model.weight, value)
        runner.iter = step
        hook.after_train_iter(runner, step)
    share = 0.5 + 0.5 * 2.718281828 ** (-2 / 2000)
    assert hook.average["weight"].item() == pytest.approx((1 - share) * 2 + share * 4)


def test_the_student_has_its_own_weights_after_the_block_even_after_an_error() -> None:
    model, hook = Network(), AverageWeights(0.5)
    runner = fake_runner(model, hook)
    hook.before_run(runner)
    initial = bits(model.state_dict())
    nn.init.constant_(model.layers[0].weight, 7)
    newest = bits(model.state_dict())
    with suppress(KeyboardInterrupt), averaged(runner):
        assert torch.equal(bits(model.state_dict()), initial)
        raise KeyboardInterrupt
    assert torch.equal(bits(model.state_dict()), newest)
    assert torch.equal(bits(hook.average), initial)


def test_only_the_student_of_a_distiller_is_averaged() -> None:
    distiller = nn.ModuleDict({"student": Network(), "adapters": nn.Linear(2, 2)})
    distiller.student = distiller["student"]
    hook = AverageWeights(0.5)
    hook.before_run(fake_runner(distiller, hook))
    assert hook.average.keys() == distiller["student"].state_dict().keys()


def test_a_training_without_averages_has_its_weights_in_the_block() -> None:
    model = Network()
    state = bits(model.state_dict())
    with averaged(fake_runner(model)):
        assert torch.equal(bits(model.state_dict()), state)


# --- Trainings -------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project with a trained teacher, whose schedule averages weights."""
    with project_with_teacher(tmp_path_factory.mktemp("project")):
        edit("configs/schedules/tiny.yaml", ema=0.1, decay_norm_and_bias=False)
        from tests.support.tiny import TEACHER

        train(write_run(TEACHER))  # the schedule is another one
        yield


@pytest.fixture(scope="module")
def whole() -> dict[str, Path]:
    runs = {name: write_run(name) for name in (STUDENT, DISTILLED)}
    for run in runs.values():
        train(run)
    return runs


def last_checkpoint(run: Path) -> dict[str, Any]:
    return weights.read(sorted((run / "checkpoints").glob("step*"))[-1])


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
@pytest.mark.parametrize("stop", [1, 6, 9])
def test_a_resumed_run_has_the_same_average(whole: dict[str, Path], name: str, stop: int) -> None:
    run = copy_run(whole[name], f"stopped-at-{stop}")
    with interrupted_before(stop):
        train(run)
    train(run)
    assert_same(run, whole[name])


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
def test_the_averaged_weights_are_those_of_the_run(whole: dict[str, Path], name: str) -> None:
    state, content = weights.read_state(whole[name] / "weights.pth"), last_checkpoint(whole[name])
    assert torch.equal(bits(state), bits(content["average"]))
    newest = {key.removeprefix("student."): value for key, value in content["model"].items()}
    assert not torch.equal(bits(state), bits({key: newest[key] for key in state}))


def test_validation_measures_the_averaged_weights_and_changes_none(
    whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd.training import validation

    measured = []
    detections = validation.detections

    def record(detector: Any, batch: Any) -> Any:
        measured.append(bits(detector.state_dict()).clone())
        return detections(detector, batch)

    monkeypatch.setattr(validation, "detections", record)
    run = copy_run(whole[STUDENT], "validated")
    train(run, val_interval=1)
    assert_same(run, whole[STUDENT])
    middle = weights.read(run / "checkpoints" / "step00000012.pth")
    assert len(json.loads((run / "validation.jsonl").read_text().splitlines()[0])) > 3
    assert measured
    assert not torch.equal(measured[0], bits(middle["model"]))
    saved = copy_run(whole[STUDENT], "stopped-after-an-epoch")
    with interrupted_before(6):
        train(saved)
    assert torch.equal(measured[0], bits(last_checkpoint(saved)["average"]))


def test_two_processes_average_as_one(whole: dict[str, Path]) -> None:
    run = copy_run(whole[STUDENT], "two-processes")
    train_in_two_processes(run)
    ours, alone = (weights.read_state(path / "weights.pth") for path in (run, whole[STUDENT]))
    floats = [key for key, value in ours.items() if value.is_floating_point()]
    compared = [key for key in floats if "running" not in key]
    for key in compared:
        assert torch.allclose(ours[key], alone[key], rtol=0.05, atol=0.02), key
    assert len(log(run)) == len(log(whole[STUDENT]))
