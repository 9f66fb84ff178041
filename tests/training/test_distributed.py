"""Two processes that share a batch do what one process does with all of it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd.config.terms import resolve
from tests.config.test_applicability import LIBRARY, ON_ONE, classifier
from tests.support.paths import REPOSITORY
from tests.support.tiny import (
    DISTILLED,
    STUDENT,
    TEACHER,
    copy_run,
    edit,
    make_project,
    write_run,
)
from tests.support.tiny_detectors import NECKS
from tests.support.training import change, train_in_two_processes

TOLERANCE, ROUNDING = 1e-4, 1e-6
OF_A_PROCESS = {"defeat_voc", "fgfi_defeat"}
"""Their groups of 8 and 4 images are larger than the 2 that each of the processes has."""
SAME = 1e-3
"""Largest difference of weights, as a share of their change in training."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture
def jobs(quiet_mmdet: None, folder: Path, model_config: Any) -> dict[str, dict[str, Any]]:
    """Return a distiller's configuration for each method."""
    from tests.support.tiny_detectors import save_random_weights

    found = {}
    for method, detector in ON_ONE:
        teacher, student = model_config(detector, backbone="r18-w0.25"), model_config(detector)
        if "roi_head" in student:  # so many that no RoI is left out at random
            student["train_cfg"]["rcnn"]["sampler"]["num"] = 10_000
        path = folder / detector / "weights.pth"
        if not path.exists():
            save_random_weights(teacher, path.parent)
        terms = resolve(method, {}, detector, LIBRARY, "distributed")
        found[method] = {
            "type": "Distiller",
            "student": student,
            "seed": 0,
            "teacher": teacher,
            "checkpoint": str(path),
            "methods": terms,
            **classifier(terms, folder),
        }
    return found


@pytest.fixture
def detectors(quiet_mmdet: None, model_config: Any) -> dict[str, dict[str, Any]]:
    """Return the configuration of each detector, of which nothing is drawn at random."""
    found = {}
    for detector in sorted(NECKS.keys() - {"retinanet-wide", "cascade_rcnn"}):
        found[detector] = model = model_config(detector)
        if "roi_head" in model:
            model["train_cfg"]["rpn"]["sampler"]["num"] = 10_000
            model["train_cfg"]["rcnn"]["sampler"]["num"] = 10_000
    return found


def test_gradients_of_methods_are_those_of_the_joined_batch(jobs, images, tmp_path):
    alone, shared = both_ways(jobs, images, tmp_path)
    assert alone.keys() == shared.keys() == dict(ON_ONE).keys()
    assert {each.split(":")[0] for each in different(alone, shared)} == OF_A_PROCESS


def test_gradients_of_detectors_are_those_of_the_joined_batch(detectors, images, tmp_path):
    alone, shared = both_ways(detectors, images, tmp_path)
    assert alone.keys() == shared.keys() == detectors.keys()
    assert different(alone, shared) == set()


def both_ways(jobs: dict[str, dict[str, Any]], images: Any, folder: Path) -> list[dict[str, Any]]:
    """Return the gradients of each job, in one process and in two that share the batch."""
    import torch
    from torch import multiprocessing

    pair, other = images(seed=0), images(seed=1)
    data = {
        "inputs": torch.cat([pair["inputs"], other["inputs"]]),
        "data_samples": [*pair["data_samples"], *other["data_samples"]],
    }
    alone = gradients(jobs, data)
    multiprocessing.spawn(share, (jobs, data, folder), nprocs=2)
    return [alone, torch.load(folder / "gradients.pth", weights_only=True)]


def different(alone: dict[str, Any], shared: dict[str, Any]) -> set[str]:
    return {
        f"{job}: {name}"
        for job, expected in alone.items()
        for name in differences(shared[job], expected)
    }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the parameters whose gradients differ by more than rounding."""
    largest = max(gradient.norm() for gradient in expected.values())
    return [
        name
        for name, gradient in expected.items()
        if (found[name] - gradient).norm() > TOLERANCE * gradient.norm() + ROUNDING * largest
    ]


def share(rank: int, jobs: dict[str, dict[str, Any]], data: dict[str, Any], folder: Path) -> None:
    """Do one process's part: the gradients with half of the images."""
    import torch
    from torch import distributed

    import kd.runtime  # noqa: F401

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    own = {
        "inputs": data["inputs"][2 * rank : 2 * rank + 2],
        "data_samples": data["data_samples"][2 * rank : 2 * rank + 2],
    }
    found = gradients(jobs, own)
    if rank == 0:
        torch.save(found, folder / "gradients.pth")
    distributed.barrier()
    distributed.destroy_process_group()


def gradients(jobs: dict[str, dict[str, Any]], data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each parameter's gradient, of a job with methods what their terms add to it."""
    import torch
    from mmengine.logging import MMLogger
    from torch.nn.parallel import DistributedDataParallel

    from kd.data.sampling import seed_everything
    from kd.models.build import build_model
    from kd.observers import Progress

    MMLogger.get_instance("distributed", log_level="ERROR")
    found = {}
    for method, config in jobs.items():
        torch.manual_seed(0)
        model = build_model(config)
        model.init_weights()
        model.progress = Progress(step=10_000, epoch=0, epochs=12)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()  # statistics of a batch are of its process's images
        both = torch.distributed.is_initialized()
        wrapped = DistributedDataParallel(model) if both else model
        for _ in range(2):  # the second forward is refused if a parameter had no gradient
            seed_everything(0)
            model.zero_grad()
            losses = wrapped(data["inputs"], data["data_samples"], "loss")
            total, logged = model.parse_losses(losses)
            terms = getattr(model, "distilled", ())
            detection = sum(v for k, v in logged.items() if k not in (*terms, "loss"))
            (sum(logged[name] for name in terms) + 0 * detection if terms else total).backward()
        found[method] = {
            name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad
        }
    return found


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
def test_two_processes_train_to_the_weights_of_one(name: str, project: None) -> None:
    from kd.models.weights import read_state
    from kd.training.train import train

    start, alone, shared = (copy_run(write_run(name), each) for each in ("start", "one", "two"))
    for run in (start, alone, shared):
        change(run, freeze_statistics)
    change(start, lambda config: config["optim_wrapper"]["optimizer"].update(lr=0.0))
    train(start)
    train(alone)
    train_in_two_processes(shared)
    before, one, two = (read_state(run / "weights.pth") for run in (start, alone, shared))
    assert json.loads((shared / "provenance.json").read_text())["steps"] == 12
    moved = {key for key in one if not one[key].equal(before[key])}
    assert any("bbox_head" in key for key in moved) and any("backbone" in key for key in moved)
    for key in moved:
        assert (two[key] - one[key]).norm() < SAME * (one[key] - before[key]).norm(), key


def freeze_statistics(config: dict[str, Any]) -> None:
    """Freeze normalization, as the papers' schedules do, which start from ImageNet."""
    model = config["model"].get("student", config["model"])
    model["backbone"]["norm_eval"] = True


def test_torchrun_trains_a_run(project: None) -> None:
    run = write_run(DISTILLED)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "--standalone", "-m", "kd", "train", str(run)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == json.loads((run / "provenance.json").read_text())["steps"]
    assert len(set(steps)) == len(steps)
