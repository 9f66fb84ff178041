"""Rehearsal of one training, in a process whose end by the system is reported."""

import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd.common.errors import UserError
from kd.common.files import locked, read_json, write_json
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.data.entry import Dataset
from kd.rehearsal.configuration import RehearsalExtent, rehearsed, with_teachers
from kd.rehearsal.project import is_stand_in, link_checkpoints, prepare
from kd.rehearsal.trainings import title_of
from kd.resources.rehearsals import PROJECT, RECORD, Rehearsal, folder_of, rehearsal_key
from kd.training.launch import FAILURE, end_with_parent

logger = logging.getLogger(__name__)
TRAININGS = Path("results", "runs")
"""Folder of the rehearsed trainings in the rehearsals' project."""
LOCK = ".lock"
"""File in the folder of a rehearsal, which the process that makes it locks."""
PARTS = {"dataset", "schedule"}
"""Keys that ``run.json`` must have."""
RESULT, STEP_TIMES, WARNINGS = "result.json", "steps.jsonl", "warnings.jsonl"
"""Files of a rehearsed training: measurements, times of the steps, warnings."""
SOURCE_LINE = re.compile(r"^\S+\.py:\d+: ")
"""Place in the code at the beginning of a warning of Python."""
RESUMPTION = "the method `get_instance` should not accept any other arguments"
"""Part of mmengine's warnings on a second training in a process, as every rehearsal makes one."""


@dataclass(frozen=True)
class Processes:
    """Processes of a rehearsal."""

    count: int
    """Training processes, with a GPU each if there are GPUs."""
    workers: int
    """Data loading processes of each training process."""
    accumulate: int = 1
    """Parts in which each process computes its batch."""


def rehearse(
    run: Path, extent: RehearsalExtent, processes: Processes, load: Callable[[], None]
) -> tuple[Path, Rehearsal]:
    """Rehearse the training of a run's directory; return its record and the record's path.

    ``load`` imports torch and mmdet; the process that trains calls it. UserError with the reason if
    a part of the rehearsal fails.
    """
    config, identity = read_config(run), read_json(run / "run.json")
    if not isinstance(identity, dict) or not identity.keys() >= PARTS:
        raise UserError(f"{run / 'run.json'}: does not describe a run; compose it again")
    if ComposedConfig(config).published_checkpoint:
        raise UserError(f"{run}: imports published weights, so there is no training to rehearse")
    key = rehearsal_key(config)
    try:
        with locked(folder_of(key) / LOCK, waits=False):
            return _rehearse(run, key, config, identity, extent, processes, load)
    except BlockingIOError:
        raise UserError(
            f"{folder_of(key)}: another process makes this rehearsal; wait until it ends, or end it"
        ) from None


def _rehearse(
    run: Path,
    key: str,
    config: dict[str, Any],
    identity: dict[str, Any],
    extent: RehearsalExtent,
    processes: Processes,
    load: Callable[[], None],
) -> tuple[Path, Rehearsal]:
    """Make a rehearsal in place of an earlier one, whose record and failure are deleted first."""
    name = identity["dataset"]
    folder = TRAININGS / _folder_name(identity) / key
    directory, failed = PROJECT / folder, folder_of(key) / FAILURE
    for path in (failed, folder_of(key) / RECORD):
        path.unlink(missing_ok=True)
    try:
        dataset = Library().dataset(name, str(run))
        logger.info(prepare(name, dataset, extent.images))
        link_checkpoints()
        shutil.rmtree(directory, ignore_errors=True)
        write_json(directory / "run.json", {**identity, "rehearsal": True})
        started = time.time()
        run_apart(lambda: _steps(folder, config, dataset, extent, processes, load))
        record = _record(directory, config, processes, started, extent.images)
    except UserError as error:
        write_json(failed, {"run": title_of(identity), "reason": str(error)})
        raise
    finally:
        for path in (*directory.glob("**/*.pth"), *directory.glob("**/*.tmp")):
            path.unlink(missing_ok=True)
    return record.write(key), record


def _steps(
    directory: Path,
    config: dict[str, Any],
    dataset: Dataset,
    extent: RehearsalExtent,
    processes: Processes,
    load: Callable[[], None],
) -> None:
    """Run the steps of a rehearsal in the rehearsals' project, and keep its warnings."""
    teachers = ComposedConfig(config).teacher_checkpoints
    trained = {teacher: path.resolve() for teacher, path in teachers.items() if path.exists()}
    os.chdir(PROJECT)
    load()
    import torch

    from kd.rehearsal.steps import rehearse_steps

    handler = WarningLog(directory / WARNINGS)
    for name in ("kd", "py.warnings", "mmengine", "mmdet"):
        logging.getLogger(name).addHandler(handler)
    logging.captureWarnings(True)
    name = read_json(directory / "run.json")["dataset"]
    on_gpu = torch.cuda.is_available()
    settings = rehearsed(config, name, dataset, extent, on_gpu=on_gpu)
    write_json(directory / "config.json", with_teachers(settings, directory))
    rehearse_steps(directory, trained, processes)


def run_apart(call: Callable[[], None]) -> None:
    """Call a function in another process; UserError with its error, or if the system ended it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_report_error, args=(call, sender))
    process.start()
    sender.close()
    try:
        problem = receiver.recv()
    except EOFError:
        problem = ""
    process.join()
    if problem:
        raise UserError(problem)
    if process.exitcode:
        raise UserError(_ending(process.exitcode))


def _report_error(call: Callable[[], None], sender: Any) -> None:
    """Call a function and send the first line of its error, if it raises one.

    The system kills this process with its parent, so no training continues unseen.
    """
    end_with_parent()
    try:
        call()
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException as error:
        from kd.records.provenance import reason

        if not isinstance(error, UserError):
            logger.exception("rehearsal")
        sender.send(str(error) if isinstance(error, UserError) else reason(error))
        os._exit(1)


def _ending(status: int) -> str:
    """Return a line on a process that the system ended."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    if status != -signal.SIGKILL:
        return f"the process ended with {name}"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"the system killed the process (SIGKILL), most likely because memory ran out: it used "
        f"{peak:.1f} of {total:.1f} GB; rehearse with a smaller --batch, or train with 'accumulate'"
    )


def _record(
    directory: Path,
    config: dict[str, Any],
    processes: Processes,
    started: float,
    listed_images: int | None,
) -> Rehearsal:
    """Return the record of a rehearsal from the files that its process wrote."""
    identity, result = read_json(directory / "run.json"), read_json(directory / RESULT)
    provenance = read_json(directory / "provenance.json")
    steps, seconds = read_lines(directory / STEP_TIMES), result["seconds"]
    batch, name = ComposedConfig.read(directory).batch_size, identity["dataset"]
    step_seconds = seconds_per_step(steps)
    environment = {key: provenance.get(key) for key in ("commit", "packages", "host", "started")}
    return Rehearsal(
        run=title_of(identity),
        device=(provenance["devices"] or [provenance["cpu"]])[0],
        gpus=processes.count if provenance["devices"] else 0,
        threads=provenance["threads"],
        workers=processes.workers,
        accumulate=processes.accumulate,
        steps=len(steps),
        batch=batch,
        planned_batch=ComposedConfig(config).batch_size,
        data=f"{name} (stand-in)" if is_stand_in(name) else name,
        listed_images=listed_images if is_stand_in(name) else None,
        random_weights=tuple(result["random_weights"]),
        first_step=round(steps[0]["ended"] - started, 1),
        seconds_per_step=round(step_seconds, 4),
        images_per_second=round(batch / step_seconds, 3),
        process_mb=result["process_mb"],
        gpu_mb=result["gpu_mb"],
        checkpoint_mb=result["checkpoint_mb"],
        seconds=seconds,
        gradient_ratios=_rounded(result["gradient_ratios"]),
        losses=_rounded(result["losses"]),
        warnings=tuple(dict.fromkeys(line["warning"] for line in read_lines(directory / WARNINGS))),
        environment=environment,
    )


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def seconds_per_step(steps: list[dict[str, Any]]) -> float:
    """Return the median seconds of steps that neither start a process nor measure gradients.

    A rehearsal of a few steps has none; the time is then that of its fastest step.
    """
    steady = [one["seconds"] for one in steps if not (one["first"] or one["probed"])]
    return statistics.median(steady) if steady else min(one["seconds"] for one in steps)


def _folder_name(identity: dict[str, Any]) -> Path:
    """Return network and method of a run, by which log lines name its rehearsal."""
    return Path(*title_of(identity).split("/")[2:])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; none without the file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class WarningLog(logging.Handler):
    """Handler that writes each warning to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.WARNING)
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        line = SOURCE_LINE.sub("", record.getMessage().strip().splitlines()[0])
        if RESUMPTION in line:
            return
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"warning": line}) + "\n")
