"""Two processes with two images each have the gradients of one process with all four."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kd.settings.methods import resolve
from tests.test_matrix import LIBRARY, ON_ONE, classifier
from tests.tiny import DISTILLED, REPOSITORY, TEACHER, make_project, write_run

TOLERANCE, ROUNDING = 1e-4, 1e-6
OF_A_PROCESS = {"gid_rewrite"}
"""Relates the regions of one process's images, as the code that it rewrites does."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture
def jobs(quiet_mmdet: None, folder: Path, model_config: Any) -> dict[str, dict[str, Any]]:
    """Return a distiller's configuration for each method, normalisation layers at rest."""
    from tests.conftest import save_random_weights

    found = {}
    for method, detector in ON_ONE:
        teacher, student = model_config(detector, backbone="r18-w0.25"), model_config(detector)
        student["backbone"]["norm_eval"] = True  # statistics of a batch are of its process's images
        if "roi_head" in student:  # so many that no RoI is left out at random
            student["train_cfg"]["rcnn"]["sampler"]["num"] = 10_000
        path = folder / detector / "weights.pth"
        if not path.exists():
            save_random_weights(teacher, path.parent)
        terms = resolve(method, {}, detector, LIBRARY, "distributed")
        found[method] = {
            "type": "Distiller",
            "student": student,
            "teacher": teacher,
            "checkpoint": str(path),
            "methods": terms,
            **classifier(terms, folder),
        }
    return found


def test_gradients_are_those_of_the_joined_batch(jobs, images, tmp_path):
    import torch
    from torch import multiprocessing

    pair, other = images(seed=0), images(seed=1)
    data = {
        "inputs": torch.cat([pair["inputs"], other["inputs"]]),
        "data_samples": [*pair["data_samples"], *other["data_samples"]],
    }
    alone = gradients(jobs, data)
    multiprocessing.spawn(share, (jobs, data, tmp_path), nprocs=2)
    shared = torch.load(tmp_path / "gradients.pth", weights_only=True)
    assert alone.keys() == shared.keys() == dict(ON_ONE).keys()
    different = {
        f"{method}: {name}"
        for method, wanted in alone.items()
        for name in differences(shared[method], wanted)
    }
    assert {each.split(":")[0] for each in different} == OF_A_PROCESS, different


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the parameters whose gradients differ by more than rounding."""
    largest = max(gradient.norm() for gradient in wanted.values())
    return [
        name
        for name, gradient in wanted.items()
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
    """Return, per method, what its terms add to each parameter's gradient."""
    import torch
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from torch.nn.parallel import DistributedDataParallel

    from kd.data.loading import seed_everything
    from kd.observation import Progress

    MMLogger.get_instance("distributed", log_level="ERROR")
    found = {}
    for method, config in jobs.items():
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(config, _scope_="mmdet"))
        model.init_weights()
        model.progress = Progress(step=10_000, epoch=0, epochs=12)
        model.train()
        both = torch.distributed.is_initialized()
        wrapped = DistributedDataParallel(model) if both else model
        for _ in range(2):  # the second forward is refused if a parameter had no gradient
            seed_everything(0)
            model.zero_grad()
            losses = wrapped(data["inputs"], data["data_samples"], "loss")
            logged = model.parse_losses(losses)[1]
            distilled = sum(logged[name] for name in model.distilled)
            detection = sum(v for k, v in logged.items() if k not in (*model.distilled, "loss"))
            (distilled + 0 * detection).backward()
        found[method] = {
            name: each.grad.clone() for name, each in model.named_parameters() if each.requires_grad
        }
    return found


def test_two_processes_train_a_run(tmp_path, monkeypatch, quiet_mmdet):
    from kd.train import train

    monkeypatch.chdir(make_project(tmp_path))
    train(write_run(TEACHER))
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
