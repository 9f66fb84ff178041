"""Training one run, given its directory with the composed ``config.json``."""

import copy
import logging
import os
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from torch import distributed

import kd.models.mmdet_setup  # noqa: F401
from kd.common.errors import UserError
from kd.common.files import sha256, write_json
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig, read_config
from kd.config.library import Library
from kd.data.check_report import read_report
from kd.data.loader import fast_loader
from kd.models import weights
from kd.models.optimizers import fastest
from kd.models.registration import register
from kd.records import inputs, provenance
from kd.training import launch, run_lock
from kd.training.averaging import averaged
from kd.training.inactive_adapters import EPOCH_KEYS, InactiveAdapters
from kd.training.launch import per_process
from kd.training.loop import bare
from kd.training.parts.accumulation import Accumulation
from kd.training.parts.memory import is_out_of_memory, out_of_memory
from kd.training.published.imports import class_meta, import_weights
from kd.training.published.initial import start_from_published
from kd.training.teacher_cache import TeacherCaching
from kd.training.tracking.hook import Tracking, closing
from kd.training.validation import Validation

logger = logging.getLogger(__name__)

DISTRIBUTED_WRAPPER = {
    "type": "MMDistributedDataParallel",
    "broadcast_buffers": False,
    "device_ids": None,
    "gradient_as_bucket_view": True,
}
"""mmengine's settings of DistributedDataParallel. The model is on its process's device already,
which may be a CPU. Gradients are views of the buckets that are sent. The graph is not static: a
term may have no gradient without objects."""

LEAST_BFLOAT16_WIDTH = 128
"""Smallest width of images in bfloat16 on a CPU, in pixels: the last stride of an FPN."""


@run_lock.exclusive
def train(
    directory: Path,
    workers: int = 0,
    report: Path | None = None,
    val_interval: int = 0,
    teacher_cache_mb: int = 0,
    accumulate: int = 1,
    tracking: Tracking | None = None,
) -> None:
    """Train the run, or import its published weights, and write ``weights.pth`` and provenance.

    Resume from the newest checkpoint. ``workers``: data loading processes. ``report``: the data
    set's check report; its count of dropped boxes goes into the provenance. ``val_interval``:
    epochs between measurements of AP, 0 for none. ``teacher_cache_mb``: the limit of cached teacher
    outputs. Neither of the last two changes a weight. ``accumulate``: the parts in which each
    process computes its share of a batch; weights are equal up to rounding. ``tracking``: the hook
    that shows the log in trackers. A run that fails leaves ``failure.json`` and raises its error.
    StopRequested if a stop was requested; TakenError if
    another process trains the run.
    """
    config = read_config(directory)
    if launch.rank() == 0:
        launch.forget_failures(directory)
    try:
        if ComposedConfig(config).published_checkpoint:
            import_weights(config, directory)
        else:
            options = workers, report, val_interval, teacher_cache_mb, accumulate, tracking
            _train(config, directory, *options)
    except launch.StopRequested:
        _leave()
        raise
    except Exception as error:
        failure: Exception = error
        if is_out_of_memory(error):
            failure = out_of_memory(error, ComposedConfig(config).batch_size, accumulate)
        recorded = _recorded(directory, failure)
        if recorded is error:
            raise
        raise recorded from None
    _leave()


def _recorded(directory: Path, error: Exception) -> BaseException:
    """Record a failure, of a group only the first; return the exception to raise."""
    failure: BaseException = error
    if launch.world() > 1:
        if isinstance(error, distributed.DistError) or "/gloo/" in str(error):
            failure = launch.LostProcessError(
                f"process {launch.rank()} of {launch.world()} lost its connection to the others: "
                f"{provenance.reason(error)}"
            )
        try:
            launch.claim(directory).touch(exist_ok=False)
        except FileExistsError:  # another process recorded its failure
            return SystemExit(0 if launch.launched() else 1)
        except OSError:  # two records are better than none
            pass
    with suppress(OSError):  # such as a full disk; the caller still raises the failure
        provenance.write_failure(directory, failure)
    return failure


def _leave() -> None:
    """Leave the group of processes; otherwise torch warns at exit."""
    if launch.world() > 1 and distributed.is_initialized():
        distributed.destroy_process_group()


def order_memory(runner: Runner) -> None:
    """Convert weights in half precision to channels-last, the order that tensor cores read."""
    if "precision" in runner.cfg.optim_wrapper:
        bare(runner.model).to(memory_format=torch.channels_last)


class _Runner(Runner):
    """mmengine's runner, without files that the run has already."""

    inputs: inputs.Inputs
    """Inputs of the run, set in the main process before training; checkpoints contain them."""

    def _init_model_weights(self) -> None:
        """Initialize the weights, and order their memory afterwards.

        Initial values are drawn in the order of memory.
        """
        super()._init_model_weights()
        if line := start_from_published(bare(self.model), self.cfg):
            logger.info(line)
        order_memory(self)

    def dump_config(self) -> None:
        """Write no second ``config.json``: formatting it as Python takes a second."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """Log nothing: the provenance has the environment, and ``config.json`` the settings."""


def build_runner(
    config: dict[str, Any],
    directory: Path,
    workers: int = 0,
    val_interval: int = 0,
    teacher_cache_mb: int = 0,
    accumulate: int = 1,
) -> Runner:
    """Return mmengine's runner of a composed configuration, working in ``directory``."""
    register(config)
    composed = ComposedConfig(config)
    shared = "RANK" in os.environ
    if shared:
        _join()
        _check_normalization(composed, directory)
    _check_precision(composed, directory)
    if val_interval and composed.kind == "classifier":
        raise UserError(
            f"{directory / 'config.json'}: a classifier has no AP to measure between epochs; leave "
            "out --val-interval (`kd evaluate` computes its accuracy after training)"
        )
    settings = Config(copy.deepcopy(config))
    settings.pop("val_dataloader", None)  # mmengine would want its own loop for it, too
    settings.work_dir = str(directory / "mmengine")
    settings.experiment_name = str(directory.resolve())  # runners of one name share their logger
    settings.launcher = "pytorch" if shared else "none"
    settings.model_wrapper_cfg = DISTRIBUTED_WRAPPER
    # Without a backend, which would write a second log.
    settings.visualizer = {"type": "Visualizer"}
    settings.log_level = "WARNING"
    settings.default_hooks.timer = None  # its history is copied at each step and not used
    settings.optim_wrapper = fastest(settings.optim_wrapper)
    launch.check_parts(composed.batch_size, launch.world(), accumulate, directory)
    batch_size = per_process(composed.batch_size, launch.world())
    settings.train_dataloader = fast_loader(
        {**composed.loader("train"), "batch_size": batch_size}, workers
    )
    student = settings.model.get("student", settings.model)
    if settings.train_dataloader.pin_memory and "data_preprocessor" in student:
        student.data_preprocessor.non_blocking = True
    runner = _Runner.from_cfg(settings)
    runner.inputs = {}
    if val_interval:
        runner.register_hook(Validation(val_interval, config, workers))
    if any(term.keys() & EPOCH_KEYS for term in composed.terms.values()):
        runner.register_hook(InactiveAdapters())
    if teacher_cache_mb:
        runner.register_hook(TeacherCaching(teacher_cache_mb, config, directory, accumulate))
    if accumulate > 1:
        runner.register_hook(Accumulation(accumulate))
    return runner


def _check_normalization(config: ComposedConfig, directory: Path) -> None:
    """Refuse SyncBN on CPUs; in a single process mmengine replaces it by BN."""
    if config.norm == "SyncBN" and not torch.cuda.is_available():
        raise UserError(
            f"{directory / 'config.json'}: SyncBN in a group of processes needs GPUs; "
            "without GPUs train in one process, which has the whole batch"
        )


def _check_precision(config: ComposedConfig, directory: Path) -> None:
    """Refuse images narrower than the last stride of an FPN in bfloat16 on CPUs.

    For a map of one cell oneDNN's gradient of a strided convolution's weights contains
    uninitialized memory (torch 2.11).
    """
    if torch.cuda.is_available() or config.precision != "bfloat16":
        return
    for width, height in config.image_sizes("train"):
        if width < LEAST_BFLOAT16_WIDTH:
            raise UserError(
                f"{directory / 'config.json'}: images of {width} x {height} pixels in bfloat16 "
                f"need a GPU; on a CPU make them {LEAST_BFLOAT16_WIDTH} wide, or set "
                "'precision: float32'"
            )


def _join() -> None:
    """Join the group of processes; mmengine's function needs a GPU."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(_device(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()))
    if launch.rank():
        warnings.simplefilter("ignore")  # the main process shows them
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo")


def _device(local: int, devices: int) -> int:
    """Return the GPU of a process; Slurm may make only one visible to each."""
    if local < devices:
        return local
    if devices == 1 and "SLURM_LOCALID" in os.environ:
        return 0
    raise UserError(
        f"process {local} of this machine has no GPU: the machine has {devices}; lower --processes"
    )


def _describe(config: ComposedConfig, accumulate: int) -> str:
    """Return a line with each process's share of the batch, its parts and the learning rate."""
    batch, rate = config.batch_size, config.learning_rate
    processes = launch.world()
    shared = f" = {batch // processes} on each of {processes} processes" if processes > 1 else ""
    if accumulate > 1:
        images = batch // processes // accumulate
        shared += f", in {accumulate} parts of {images} image{'s' * (images > 1)}"
    return f"batch {batch}{shared}; learning rate {rate:g} (schedule's, for the whole batch)"


def _train(
    config: dict[str, Any],
    directory: Path,
    workers: int,
    report: Path | None,
    val_interval: int,
    teacher_cache_mb: int,
    accumulate: int,
    tracking: Tracking | None,
) -> None:
    started = {"started": provenance.now(), **provenance.environment(), **_dropped(report)}
    try:
        runner = build_runner(
            config, directory, workers, val_interval, teacher_cache_mb, accumulate
        )
    except KeyError as error:
        raise _unregistered(error, directory) from None
    if is_main_process():
        started |= {
            teacher: str(path)
            for teacher, path in ComposedConfig(config).teacher_checkpoints.items()
        }
        if initial := ComposedConfig(config).initial_checkpoint:
            started["initial_checkpoint"] = initial
        runner.inputs = inputs.of_training(config, directory, Library())
        inputs.record(directory, "training", runner.inputs)
        logger.info(_describe(ComposedConfig(config), accumulate))
    if tracking:
        runner.register_hook(tracking)
    with closing(tracking):
        runner.train()
    if not is_main_process():
        return
    model = bare(runner.model)
    adapters = {"adapters": model.adapters.state_dict()} if hasattr(model, "adapters") else {}
    with averaged(runner):
        state = {"state_dict": weights.detector_state(model), **adapters, "inputs": runner.inputs}
        weights.save(directory / WEIGHTS, {**state, **class_meta(config)})
    record = {
        "run": directory.name,
        **started,
        "finished": provenance.now(),
        "inputs": runner.inputs,
        **_cost(runner),
        "teacher_cache_mb": teacher_cache_mb,  # with it a step costs less than the method does
        "accumulate": accumulate,  # with it a step costs more
        "weights_sha256": sha256(directory / WEIGHTS),
    }
    write_json(directory / "provenance.json", record)


def _unregistered(error: KeyError, directory: Path) -> Exception:
    """Return a registry's error in one line: neither mmdet nor this project has the type."""
    match = re.search(r"(\w+) is not in the (\w+)::([\w ]+) registry", str(error))
    if match is None:
        return error
    return UserError(
        f"{directory / 'config.json'}: no {match[3]} type '{match[1]}' in {match[2]}; correct it "
        "in the detector's file"
    )


def _cost(runner: Runner) -> dict[str, Any]:
    """Return the resources of the steps: time, GPU time, energy, images a second, memory."""
    used = runner.train_loop.meter.used
    images = runner.iter * runner.train_dataloader.batch_size * runner.world_size
    return {
        "steps": runner.iter,
        **{name: value and round(value, 1) for name, value in used._asdict().items()},
        "images_per_second": round(images / used.seconds, 2),
    }


def _dropped(report: Path | None) -> dict[str, Any]:
    """Return the number of boxes that the data check left out; nothing without its report."""
    return {"dropped_boxes": read_report(report).left_out} if report else {}
