"""Dependence of random draws on a run's seed: every draw of a training depends on it."""

import json
import random
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from torch import Tensor

import kd.runtime  # noqa: F401
from analysis.statistics.bootstrap import resample
from kd.classifiers.dataset import BalancedSampler
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.data.sampling import EpochSampler
from kd.models import weights
from kd.training.loop import SeedEachStep
from kd.training.train import build_runner
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit, make_project

METHODS = ["fgfi", "fkd", "defeat"]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project of two seeds, whose teacher has random weights."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("seeds")))
        edit("configs/studies/tiny.yaml", tables__pair__methods=METHODS)
        (teacher,) = (run for run in runs() if run.student == "r18-w0.1875")
        model = build_runner(teacher.config, teacher.directory).model
        weights.save(teacher.directory / "weights.pth", {"state_dict": model.state_dict()})
        yield


def runs() -> list[Run]:
    return list(plan("tiny", "tiny", Library(), StudyOptions(seeds=2)).runs.values())


def run_of(method: str | None, seed: int) -> Run:
    (run,) = (
        run for run in runs() if (run.student, run.method, run.seed) == ("r18-w0.125", method, seed)
    )
    return run


def model_of(method: str | None, seed: int) -> Any:
    run = run_of(method, seed)
    return build_runner(run.config, run.directory).model


def random_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with random initial values: those that are not constant."""
    return {name: value for name, value in state.items() if len(value.unique()) > 1}


# --- Initial weights -------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_adapters_differ_between_seeds_and_are_the_same_for_a_seed(method: str) -> None:
    first, repeated, second = (
        random_tensors(model_of(method, seed).adapters.state_dict()) for seed in (0, 0, 1)
    )
    assert first and first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, repeated[name])
        assert not torch.equal(value, second[name])


def test_every_method_starts_from_the_initial_student_of_its_seeds_baseline() -> None:
    for seed in (0, 1):
        baseline = model_of(None, seed).state_dict()
        for method in METHODS:
            student = model_of(method, seed).student.state_dict()
            assert all(torch.equal(value, student[name]) for name, value in baseline.items())
    first, second = (random_tensors(model_of(None, seed).state_dict()) for seed in (0, 1))
    assert all(not torch.equal(value, second[name]) for name, value in first.items())


# --- Order, augmentation, draws within a step --------------------------------------------------


class Labeled(list[int]):
    """Data set whose items are their labels."""

    labels = property(list)


@pytest.mark.parametrize("sampler", [EpochSampler, BalancedSampler])
def test_the_order_of_samples_depends_on_seed_and_epoch(sampler: type[EpochSampler]) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        samples = sampler(Labeled([0, 1, 1, 2] * 8), seed)
        samples.set_epoch(epoch)
        return samples.order()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_augmentation_depends_on_seed_epoch_and_image() -> None:
    def flips(seed: int) -> list[bool]:
        config = run_of(None, seed).config["train_dataloader"]["dataset"]
        data = DATASETS.build(config)
        return [data[index]["data_samples"].flip for index in range(2 * len(data))]

    first, repeated, second = flips(0), flips(0), flips(1)
    half = len(first) // 2
    assert first == repeated != second
    assert first[:half] != first[half:]


def test_draws_within_a_step_depend_on_seed_and_step() -> None:
    def draws(seed: int, step: int) -> tuple[float, ...]:
        SeedEachStep().before_train_iter(SimpleNamespace(seed=seed, iter=step), 0)
        return (torch.rand(1).item(), random.random(), np.random.rand())

    assert draws(0, 0) == draws(0, 0)
    by_step = [draws(seed, step) for seed in (0, 1) for step in (0, 1)]
    for values in zip(*by_step, strict=True):  # of torch, random and NumPy
        assert len(set(values)) == len(values)


def test_the_bootstrap_draws_the_same_resamples_for_runs_of_all_seeds() -> None:
    assert np.array_equal(resample(10, 5, 0), resample(10, 5, 0))


# --- The list in the page on statistics ---------------------------------------------------------

RANDOM = re.compile(
    r"\b(randperm|multinomial|default_rng|manual_seed|normal_|uniform_|MT19937"
    r"|torch\.rand\w*|np\.random\.\w+|random\.(Random|random|choice|shuffle|uniform|seed))\("
)
EXCEPTIONS = {
    "kd/data/builtin/drawing.py": "called by kd/data/builtin/shapes.py with its generator",
    "analysis/statistics/moderated.py": "draws a fixed reference sample, not results of a run",
    "kd/observers/declared.py": "checks an observer on a fixed image, in a copy of the detector",
    "kd/profiling/trainee.py": "measures time and memory, not results",
}


def modules_with_random_draws() -> set[str]:
    names = set()
    for folder in ("kd", "analysis"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            if RANDOM.search(path.read_text(encoding="utf-8")):
                names.add(str(path.relative_to(REPOSITORY)))
    return names


def test_the_documented_list_has_every_module_with_random_draws() -> None:
    page = (REPOSITORY / "docs/explanation/statistics.md").read_text(encoding="utf-8")
    section = page.split("## What a seed decides")[1].split("\n## ")[0]
    documented = set(re.findall(r"`((?:kd|analysis)/[\w/]+\.py)`", section))
    plans = {"kd/config/plan.py"}  # sets the teacher's seed without a draw
    seeds = {"kd/training/loop.py"}  # seeds the draws of mmdet
    assert modules_with_random_draws() - EXCEPTIONS.keys() == documented - plans - seeds


def test_configurations_of_two_seeds_differ_in_their_three_seeds_only() -> None:
    first, second = (json.dumps(run_of("fkd", seed).config, sort_keys=True) for seed in (0, 1))
    assert first != second
    assert first.replace('"seed": 0', '"seed": 1') == second
    assert first.count('"seed": 0') == 3
