"""Training in two processes that share a batch, compared with training in one process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.config.test_applicability import ON_ONE
from tests.support.paths import REPOSITORY
from tests.support.tiny import DISTILLED, STUDENT, TEACHER, copy_run, edit, make_project, write_run
from tests.support.tiny_detectors import NECKS
from tests.support.training import change, train_in_two_processes

TOLERANCE, ROUNDING = 1e-4, 1e-6
"""Largest difference of a gradient, relative to itself and to the job's largest gradient."""
PER_PROCESS = {"defeat_voc", "fgfi_defeat"}
"""Methods whose groups of 8 and 4 images are larger than the 2 images of a process."""
WEIGHT_TOLERANCE = 1e-3
"""Largest difference of weights, as a share of their change in training."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture
def jobs(quiet_mmdet: None, folder: Path, model_config: Any) -> dict[str, dict[str, Any]]:
    """Return a distiller's configuration for each method."""
    from tests.support.distillers import distiller_configs

    return distiller_configs(model_config, folder)


@pytest.fixture
def detectors(quiet_mmdet: None, model_config: Any) -> dict[str, dict[str, Any]]:
    """Return the configuration of each detector, with samplers that drop no box at random."""
    configs = {}
    for detector in sorted(NECKS.keys() - {"retinanet-wide", "cascade_rcnn"}):
        configs[detector] = model = model_config(detector)
        if "roi_head" in model:
            model["train_cfg"]["rpn"]["sampler"]["num"] = 10_000
            model["train_cfg"]["rcnn"]["sampler"]["num"] = 10_000
    return configs


def test_gradients_of_methods_equal_those_of_the_joined_batch(jobs, images, tmp_path):
    alone, shared = gradients_alone_and_shared(jobs, images, tmp_path)
    assert alone.keys() == shared.keys() == dict(ON_ONE).keys()
    differing_methods = {name.split(":")[0] for name in different_parameters(alone, shared)}
    assert differing_methods == PER_PROCESS


def test_gradients_of_detectors_equal_those_of_the_joined_batch(detectors, images, tmp_path):
    alone, shared = gradients_alone_and_shared(detectors, images, tmp_path)
    assert alone.keys() == shared.keys() == detectors.keys()
    assert different_parameters(alone, shared) == set()


def gradients_alone_and_shared(
    jobs: dict[str, dict[str, Any]], images: Any, folder: Path
) -> list[dict[str, Any]]:
    """Return the gradients of each job, in one process and in two that share the batch."""
    import torch
    from torch import multiprocessing

    first_pair, second_pair = images(seed=0), images(seed=1)
    data = {
        "inputs": torch.cat([first_pair["inputs"], second_pair["inputs"]]),
        "data_samples": [*first_pair["data_samples"], *second_pair["data_samples"]],
    }
    alone = gradients(jobs, data)
    multiprocessing.spawn(save_shared_gradients, (jobs, data, folder), nprocs=2)
    return [alone, torch.load(folder / "gradients.pth", weights_only=True)]


def different_parameters(alone: dict[str, Any], shared: dict[str, Any]) -> set[str]:
    """Return the parameters of all jobs whose gradients differ, as ``job: parameter``."""
    return {
        f"{job}: {name}"
        for job, expected in alone.items()
        for name in differences(shared[job], expected)
    }


def differences(shared: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the parameters whose gradients differ by more than rounding."""
    largest = max(gradient.norm() for gradient in expected.values())
    return [
        name
        for name, gradient in expected.items()
        if (shared[name] - gradient).norm() > TOLERANCE * gradient.norm() + ROUNDING * largest
    ]


def save_shared_gradients(
    rank: int, jobs: dict[str, dict[str, Any]], data: dict[str, Any], folder: Path
) -> None:
    """Compute the gradients in one of two processes, with its half of the images; rank 0 saves."""
    import torch
    from torch import distributed

    import kd.runtime  # noqa: F401

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    half = {
        "inputs": data["inputs"][2 * rank : 2 * rank + 2],
        "data_samples": data["data_samples"][2 * rank : 2 * rank + 2],
    }
    shared = gradients(jobs, half)
    if rank == 0:
        torch.save(shared, folder / "gradients.pth")
    distributed.barrier()
    distributed.destroy_process_group()


def gradients(jobs: dict[str, dict[str, Any]], data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the gradient of each parameter, by job.

    A distiller's gradients are those of its distillation terms, a detector's those of its loss.
    """
    import torch
    from torch.nn.parallel import DistributedDataParallel

    import kd.runtime  # noqa: F401, the modules below import mmdet
    from kd.data.sampling import seed_everything
    from tests.support.steps import build

    gradients_of_jobs = {}
    for job, config in jobs.items():
        model = build(config)  # with constant statistics: each process has half of the images
        is_shared = torch.distributed.is_initialized()
        wrapped = DistributedDataParallel(model) if is_shared else model
        for _ in range(2):  # DDP refuses a second forward if a parameter got no gradient
            seed_everything(0)
            model.zero_grad()
            losses = wrapped(data["inputs"], data["data_samples"], "loss")
            total, logged = model.parse_losses(losses)
            terms = getattr(model, "distilled", ())
            detection = sum(v for k, v in logged.items() if k not in (*terms, "loss"))
            # DDP needs a gradient of every parameter: detection is part of the graph, times zero.
            (sum(logged[name] for name in terms) + 0 * detection if terms else total).backward()
        gradients_of_jobs[job] = {
            name: parameter.grad.clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
    return gradients_of_jobs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in a tiny project that has a trained teacher."""
    import kd.runtime  # noqa: F401
    from kd.training.train import train

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("project")))
        edit("configs/schedules/tiny.yaml", warmup_iters=0)
        train(write_run(TEACHER))
        yield


@pytest.mark.parametrize("name", [STUDENT, DISTILLED], ids=["alone", "rm+pfi"])
def test_two_processes_train_the_weights_of_one_process(name: str, project: None) -> None:
    from kd.models.weights import read_state
    from kd.training.train import train

    start, alone, shared = (copy_run(write_run(name), copy) for copy in ("start", "one", "two"))
    for run in (start, alone, shared):
        change(run, freeze_statistics)
    change(start, lambda config: config["optim_wrapper"]["optimizer"].update(lr=0.0))
    train(start)
    train(alone)
    train_in_two_processes(shared)
    initial_state, alone_state, shared_state = (
        read_state(run / "weights.pth") for run in (start, alone, shared)
    )
    assert json.loads((shared / "provenance.json").read_text())["steps"] == 12
    trained_keys = {key for key in alone_state if not alone_state[key].equal(initial_state[key])}
    assert any("bbox_head" in key for key in trained_keys)
    assert any("backbone" in key for key in trained_keys)
    for key in trained_keys:
        difference = (shared_state[key] - alone_state[key]).norm()
        change_in_training = (alone_state[key] - initial_state[key]).norm()
        assert difference < WEIGHT_TOLERANCE * change_in_training, key


def freeze_statistics(config: dict[str, Any]) -> None:
    """Freeze batch normalization of the backbone, as the schedules of the papers do."""
    model = config["model"].get("student", config["model"])
    model["backbone"]["norm_eval"] = True


def test_torchrun_trains_a_run(project: None) -> None:
    run = write_run(DISTILLED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    process = subprocess.run(
        [*launcher, "--standalone", "-m", "kd", "train", str(run)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == json.loads((run / "provenance.json").read_text())["steps"]
    assert len(set(steps)) == len(steps)
