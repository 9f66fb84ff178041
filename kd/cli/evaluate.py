"""Commands that measure a trained run: ``predict``, ``evaluate`` and ``resample``."""

from argparse import Namespace

from kd.cli.networks import load_networks
from kd.config.library import Library


def predict_run(options: Namespace) -> None:
    """Write the detections or predictions of a run on the test split."""
    load_networks(options.threads)
    from kd.evaluation.predict import predict

    predict(options.run, options.workers)


def evaluate_run(options: Namespace) -> None:
    """Write the metrics of a run."""
    from kd.evaluation.evaluate import measure

    measure(options.run, Library())


def resample_run(options: Namespace) -> None:
    """Write the AP of a run on resamples of the test images."""
    from analysis.statistics.resampled import write

    write(options.run, Library())
