"""Commands of one run, from ``train`` to ``profile``."""

import os
from argparse import Namespace
from pathlib import Path

from kd.cli.networks import load_networks

PRINTED_METRICS = ("AP", "AP50", "AP75", "oLRP", "D_ECE")


def train_run(options: Namespace) -> int:
    """Train a run, or resume its training, in one or several processes."""
    from kd.config.composed import ComposedConfig, read_config
    from kd.monitoring.run_names import find_run
    from kd.training import launch
    from kd.training.tracking.names import check_trackers

    run = find_run(*options.run)
    trackers = check_trackers(options.trackers or [], "--trackers")
    if "RANK" not in os.environ:  # before a failure of the run would be recorded
        ComposedConfig(read_config(run)).require_teachers(run)
    launch.set_rank()
    if options.processes > 1 and "RANK" not in os.environ:
        return launch.launch(
            run, options.processes, options.arguments, options.folder, options.accumulate
        )
    load_networks(options.threads)
    from kd.training.tracking.hook import Tracking
    from kd.training.train import train

    try:
        train(
            run,
            options.workers,
            options.check_report,
            options.val_interval,
            options.teacher_cache,
            options.accumulate,
            Tracking(trackers, dict(options.tag)) if trackers else None,
        )
    except launch.StopRequested as stop:
        if launch.rank() == 0:
            print(stop, flush=True)
        return 0 if launch.launched() else launch.STOPPED
    return 0


def predict_run(options: Namespace) -> None:
    """Write the detections or predictions of a run on a split, also as COCO results."""
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    if options.coco:
        _require_coco(run, options.coco)
    load_networks(options.threads)
    from kd.config.library import Library
    from kd.evaluation.evaluate import write_coco_results
    from kd.evaluation.predict import is_current, predict

    if not options.coco or not is_current(run, options.split):
        predict(run, options.workers, options.split)
    if options.coco:
        for path in write_coco_results(run, Library(), options.coco, options.split):
            print(path)


def _require_coco(run: Path, path: Path) -> None:
    """Raise UserError if a file for COCO results exists, and for a classifier."""
    from kd.common.errors import UserError
    from kd.config.composed import ComposedConfig

    if path.exists():
        raise UserError(f"{path}: exists; give another name for --coco, or remove it")
    if ComposedConfig.read(run).kind == "classifier":
        raise UserError(f"{run}: a classifier has no detections; leave out --coco")


def evaluate_run(options: Namespace) -> None:
    """Write the metrics of a run, and print AP, optimal LRP and D-ECE of a detector."""
    from kd.common.files import read_json
    from kd.config.library import Library
    from kd.evaluation.evaluate import measure
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    path = measure(run, Library(), options.split)
    metrics = read_json(path)
    printed_metrics = {key: metrics[key] for key in PRINTED_METRICS if metrics.get(key) is not None}
    values = [f"{key} {100 * value:.1f}" for key, value in printed_metrics.items()]
    print(": ".join(filter(None, [str(path), ", ".join(values)])))


def write_run_size(options: Namespace) -> None:
    """Write and print the size of a run's detector."""
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    load_networks(None)
    from kd.records.model_size import FILE, describe, write_size

    print(f"{run / FILE}: {describe(write_size(run))}")


def resample_run(options: Namespace) -> None:
    """Write the AP of a run on resamples of the images of a split."""
    from analysis.statistics.resampled import write
    from kd.config.library import Library
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    print(write(run, Library(), options.split))


def profile_run(options: Namespace) -> None:
    """Print and draw the time and memory of a training step by part."""
    from kd.monitoring.run_names import find_run

    run = find_run(*options.run)
    load_networks(options.threads)
    from analysis.figures.profile.plot import write_profile
    from kd.profiling.profile import Extent, profile
    from kd.profiling.table import describe

    measurements = profile(run, Extent(options.steps, options.batch, options.workers))
    print(describe(measurements))
    for path in write_profile(measurements, options.to or run / "profile"):
        print(path)


def rehearse_run(options: Namespace) -> None:
    """Rehearse the training of a run, and print its speed and memory."""
    from kd.monitoring.run_names import find_run
    from kd.rehearsal.configuration import RehearsalExtent
    from kd.rehearsal.rehearse import Processes, rehearse
    from kd.rehearsal.table import describe

    extent = RehearsalExtent(options.steps, options.batch, options.images)
    processes = Processes(options.processes, options.workers, options.accumulate)
    path, record = rehearse(
        find_run(*options.run), extent, processes, lambda: load_networks(options.threads)
    )
    print(f"{path}: {describe(record)}")
