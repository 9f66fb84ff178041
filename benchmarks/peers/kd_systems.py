"""Systems of this project: composed runs, trained by its runner."""

from dataclasses import replace
from typing import Any

from mmengine.registry import init_default_scope

from benchmarks.peers.mmdet_systems import Stop, built
from benchmarks.peers.work import OPTIMIZER, Work
from kd.config.compose import WEIGHTS, compose
from kd.config.library import Library
from kd.config.run import Run
from kd.config.terms import resolve
from kd.models import weights
from kd.training.train import build_runner

WHERE = "benchmarks/peers"
STUDENT = Run(
    scale="paper",
    dataset="shapes-smoke",
    schedule="1x",
    detector="faster_rcnn",
    student="r18",
    seed=0,
)


def alone(work: Work) -> None:
    """Train the student without a teacher."""
    _train(work, _composed(STUDENT, {}))


def fitnets(work: Work) -> None:
    """Train the student with MSE on the neck's maps."""
    _distil(work, "fitnets")


def fkd(work: Work) -> None:
    """Train the student with FKD as mmrazor has it."""
    _distil(work, "fkd_mmrazor")


def _distil(work: Work, method: str) -> None:
    init_default_scope("mmdet")
    library = Library()
    teacher = replace(STUDENT, student="r50")
    teacher = replace(teacher, config=_composed(teacher, {}))
    terms = resolve(method, {}, STUDENT.detector, library, WHERE)
    config = _composed(replace(STUDENT, method=method, teacher=teacher), terms)
    config["model"]["checkpoint"] = str(work.folder / WEIGHTS)
    weights.save(work.folder / WEIGHTS, {"state_dict": built(50).state_dict()})
    _train(work, config)


def _composed(run: Run, terms: dict[str, Any]) -> dict[str, Any]:
    """Return a run's configuration at paper scale, but with random weights to start from."""
    library = Library()
    config = compose(run, terms, library.scale(run.scale, WHERE), library, WHERE)
    config["model"].get("student", config["model"])["backbone"].pop("init_cfg", None)
    return config


def _train(work: Work, config: dict[str, Any]) -> None:
    """Train by the pipeline's own runner: loop, hooks, sampler and seeds as in any run."""
    config["train_dataloader"]["batch_size"] = work.batch
    config["train_dataloader"]["sampler"]["shuffle"] = False
    config["train_dataloader"]["dataset"]["dataset"] = {
        "type": "Scenes",
        "images": str(work.images),
    }
    config["optim_wrapper"]["optimizer"] |= OPTIMIZER
    for hook in config["custom_hooks"]:
        if hook["type"] == "StepLog":
            hook |= {"interval": 50, "probes": 0}  # as often as mmdet logs; nothing of first steps
        if hook["type"] == "Checkpoints":
            hook |= {"minutes": 1e6}  # none while it is measured, as with the others
    run = build_runner(config, work.folder)
    run.register_hook(Stop(work))
    run.train()
