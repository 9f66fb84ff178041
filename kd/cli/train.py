"""Command that trains a run: ``train``."""

import os
from argparse import Namespace

from kd.cli.networks import load_networks
from kd.training import launch


def train_run(options: Namespace) -> int:
    """Train a run, or resume its training, in one or several processes."""
    launch.set_rank()
    if options.processes > 1 and "RANK" not in os.environ:
        return launch.launch(options.run, options.processes, options.arguments)
    load_networks(options.threads)
    from kd.training.train import train

    try:
        train(
            options.run,
            options.workers,
            options.report,
            options.val_interval,
            options.teacher_cache,
        )
    except launch.StopRequested as stop:
        if launch.rank() == 0:
            print(stop, flush=True)
        return 0 if launch.launched() else launch.STOPPED
    return 0
