"""Steps of a rehearsal, in a separate process that works in the rehearsals' project."""

import json
import logging
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger

from kd.classifiers import cutting
from kd.common.errors import UserError
from kd.common.files import read_json, write_json
from kd.config.canonical import built_model
from kd.config.composed import CHECKPOINTS, ComposedConfig, read_config
from kd.config.library import Library
from kd.config.run import Crops
from kd.data.sampling import seed_everything
from kd.evaluation.evaluate import measure
from kd.evaluation.predict import predict
from kd.methods.base import DETECTION_TERM
from kd.models import weights
from kd.models.build import build_model
from kd.models.registration import register
from kd.rehearsal.configuration import PREDICTED_CROPS, with_available_weights
from kd.rehearsal.project import report_of
from kd.rehearsal.rehearse import RESULT, STEP_TIMES, Processes, read_lines
from kd.training import launch
from kd.training.term_scale import ratios
from kd.training.train import train

STOP = "stop"
"""File of a training that requests its stop."""


class PartTimes(dict[str, float]):
    """Seconds by part of a rehearsal."""

    @contextmanager
    def measured(self, part: str) -> Iterator[None]:
        """Measure the time of a block, which is named in the message of an error."""
        started = time.monotonic()
        try:
            yield
        except UserError as error:
            raise UserError(f"{part}: {error}") from None
        self[part] = round(time.monotonic() - started, 1)


def rehearse_steps(directory: Path, trained: dict[str, Path], processes: Processes) -> None:
    """Train, stop, resume, predict and evaluate the training of a directory; write ``RESULT``.

    ``trained``: weights of teachers that are trained already; the others get random ones. The
    working directory is the rehearsals' project.
    """
    times = PartTimes()
    config = read_config(directory)
    register(config)
    with times.measured("data"):
        random = _teacher_weights(config, trained)
        config, absent = with_available_weights(config)
        write_json(directory / "config.json", config)
        if settings := ComposedConfig(config).crops:
            threads = torch.get_num_threads()
            cutting.build(Crops(settings), Library(), threads, most_images=PREDICTED_CROPS)
    with times.measured("training"):
        _train(directory, processes, stops=True)
    checkpoints = list((directory / "checkpoints").glob("*.pth"))
    checkpoint_mb = max(path.stat().st_size for path in checkpoints) / 2**20
    with times.measured("resumption"):
        _train(directory, processes, stops=False)
    with times.measured("prediction"):
        predict(directory, processes.workers)
    with times.measured("evaluation"):
        measure(directory, Library())
    write_json(
        directory / RESULT,
        {
            "random_weights": [*random, *absent],
            "seconds": times,
            "checkpoint_mb": round(checkpoint_mb, 1),
            **_memory(directory, processes.count),
            **_losses(directory),
        },
    )


def _train(directory: Path, processes: Processes, *, stops: bool) -> None:
    """Train up to the stop, or from there to the last step."""
    report, stop = report_of(read_json(directory / "run.json")["dataset"]), directory / STOP
    os.environ[launch.STOP_FILE] = str(stop)
    try:
        if processes.count == 1:
            train(directory, processes.workers, report, accumulate=processes.accumulate)
            status = 0
        else:
            words = ["train", str(directory), "--check-report", str(report)]
            words += ["--processes", str(processes.count), "--workers", str(processes.workers)]
            words += ["--accumulate", str(processes.accumulate)]
            words += ["--threads", str(torch.get_num_threads())]
            status = launch.launch(
                directory, processes.count, words, accumulate=processes.accumulate
            )
    except launch.StopRequested:
        status = launch.STOPPED
    finally:
        stop.unlink(missing_ok=True)
    if status != (launch.STOPPED if stops else 0):
        failure = directory / launch.FAILURE
        reason = f"exit status {status}" if status else "the run ended before it could be stopped"
        if failure.exists():
            reason = read_json(failure)["reason"]
        raise UserError(reason)


def _teacher_weights(config: dict[str, Any], trained: dict[str, Path]) -> list[str]:
    """Write or link the weights of the teachers; return the teachers whose weights are random."""
    random: list[str] = []
    model = config["model"]
    for teacher, key in CHECKPOINTS.items():
        if not model.get(key):
            continue
        path = Path(model[key])
        path.unlink(missing_ok=True)
        if source := trained.get(teacher):
            path.symlink_to(source)
            continue
        seed_everything(0)
        settings = built_model({"model": model[teacher]})
        if "init" in settings:
            settings = {**settings, "init": "scratch"}
        MMLogger.get_current_instance().setLevel(logging.WARNING)  # it logs every tensor
        network = build_model(settings)
        network.init_weights()
        weights.save(path, {"state_dict": network.state_dict()})
        random.append(teacher)
    return random


def _memory(directory: Path, processes: int) -> dict[str, Any]:
    """Return the peaks of the memory of a training process, and of its GPU's, in MB."""
    peak_mb = read_json(directory / "provenance.json")["peak_memory_mb"]
    # Processes that srun starts are no children of this one, so the first of them measures itself.
    process_mb = max(step["process_mb"] for step in read_lines(directory / STEP_TIMES))
    if processes == 1:
        process_mb = max(process_mb, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10)
    return {
        "process_mb": process_mb,
        "gpu_mb": peak_mb if torch.cuda.is_available() else None,
    }


def _losses(directory: Path) -> dict[str, Any]:
    """Return the gradient ratios of the first step and the losses of the last one."""
    lines = (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    numbers = {"step", "steps", "epoch", "lr", "images_per_second", "share", "gradient_norm"}
    norms = first.get("gradient_norm") or {}
    measured = ratios(norms) if norms else {}
    return {
        "gradient_ratios": {
            name: measured.get(name, 0.0) for name in norms if name != DETECTION_TERM
        },
        "losses": {name: value for name, value in last.items() if name not in numbers},
    }
