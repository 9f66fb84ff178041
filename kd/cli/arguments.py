"""The command line's words: every step with its arguments. Nothing here imports torch."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from kd.common.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of all steps; it leaves the step's name in ``step``."""
    parser = _Parser(prog="kd", description=description)
    steps = parser.add_subparsers(title="steps", required=True, metavar="STEP", dest="step")
    for group in (_studying, _monitoring, _looking, _preparing, _running):
        group(steps)
    return parser


def _studying(steps: Any) -> None:
    step = steps.add_parser("plan", help="list the runs of a study, or sum up what they take")
    _study(step)
    step.add_argument("--budget", action="store_true", help="hours, GPUs and energy by table")
    step.add_argument(
        "--gpus", type=_positive, metavar="N", help="with --budget: the time it takes on so many"
    )
    step = steps.add_parser("compose", help="print the composed configuration of runs")
    _study(step)
    step.add_argument("--run", default="", help="only runs whose name contains this")
    step.add_argument("--write", action="store_true", help="write run.json and config.json instead")
    step = steps.add_parser("table", help="write a study's tables from the results that exist")
    _study(step)
    step = steps.add_parser("report", help="write a study's page, from the results that exist")
    _study(step)
    step.add_argument(
        "--watch",
        type=_positive,
        nargs="?",
        const=30,
        metavar="SECONDS",
        help="write it again every so many seconds (30), until all runs are done or Ctrl-C",
    )


def _looking(steps: Any) -> None:
    step = steps.add_parser("methods", help="print which method applies to which detector")
    step.add_argument("name", nargs="?", help="a method or preset, to be told all about it")
    step = steps.add_parser("draw", help="draw where the methods of trained runs look")
    _study(step)
    step.add_argument("--image", type=_count, default=0, help="number of the training image")
    step.add_argument("--to", type=Path, required=True, help="folder for one PNG a method")

    step = steps.add_parser("analyze", help="draw an analysis of runs, with its data and caption")
    step.add_argument("analysis", nargs="?", help="its name; without one, all are listed")
    step.add_argument("runs", type=Path, nargs="*", help="directories; none: what the analysis is")
    step.add_argument("--to", type=Path, help="folder for pictures, CSV and caption")
    step.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the analysis"
    )
    step.add_argument("--threads", type=_positive, help="CPU threads of torch")


def _preparing(steps: Any) -> None:
    step = steps.add_parser("data", help="generate a built-in data set")
    step.add_argument("dataset", help="a name in configs/datasets")
    step = steps.add_parser("check", help="verify a data set completely")
    step.add_argument("dataset", help="a name in configs/datasets")
    step.add_argument("--report", type=Path, help="write the full report to this JSON file")

    step = steps.add_parser("classifier", help="compose a classifier's run; print its directory")
    step.add_argument("classifier", help="a name in configs/classifiers")
    step.add_argument("dataset", help="a name in configs/datasets")
    step.add_argument("--scale", default="smoke", help="a name in configs/scales (default: smoke)")
    step.add_argument("--seed", type=_count, default=0, help="seed of the training (default: 0)")
    step = steps.add_parser("crops", help="cut out the objects that a classifier learns from")
    step.add_argument("crops", type=Path, help="a folder of crops, or a classifier's run")
    step.add_argument("--threads", type=_positive, default=1, help="threads that cut")


def _running(steps: Any) -> None:
    for name, text in (
        ("train", "train a run, or go on training it"),
        ("predict", "write a run's detections or predictions on the test split"),
        ("evaluate", "write a run's metrics from its detections or predictions"),
        ("resample", "write a run's AP on 1,000 resamples of the test images"),
    ):
        step = steps.add_parser(name, help=text)
        step.add_argument("run", type=Path, help="the run's directory, with its config.json")
        if name in ("train", "predict"):
            step.add_argument("--workers", type=_count, default=0, help="data loading processes")
            step.add_argument("--threads", type=_positive, help="CPU threads of torch")
        if name == "train":
            step.add_argument("--report", type=Path, help="check report of the data set")
            step.add_argument(
                "--val-interval",
                type=_count,
                default=0,
                metavar="N",
                help="measure AP every N epochs but the last (0: never)",
            )
            step.add_argument(
                "--teacher-cache",
                type=_count,
                default=0,
                metavar="MB",
                help="keep what the teacher makes of images that come again: so much in memory, "
                "and so much on disk for the teacher (0: nothing)",
            )
            step.add_argument(
                "--processes",
                type=_positive,
                default=1,
                metavar="N",
                help="share the batch among so many, one GPU each: in a Slurm job its tasks, "
                "elsewhere on this machine",
            )
    step = steps.add_parser("profile", help="time a run's step by part, beside its bound")
    step.add_argument("run", type=Path, help="the run's directory, with its config.json")
    step.add_argument("--steps", type=_positive, default=10, help="of which medians are taken (10)")
    step.add_argument("--batch", type=_positive, help="images of a step (default: the run's)")
    step.add_argument("--workers", type=_count, default=0, help="data loading processes")
    step.add_argument("--threads", type=_positive, help="CPU threads of torch")
    step.add_argument("--to", type=Path, help="folder of what it writes (default: RUN/profile)")


def _monitoring(steps: Any) -> None:
    step = steps.add_parser("status", help="print where every run is")
    step.add_argument(
        "study", nargs="?", help="a name in configs/studies (default: the workflow's)"
    )
    step.add_argument("--scale", help="a name in configs/scales (default: the workflow's)")
    step.add_argument("--seeds", type=_positive, help="number of seeds")
    step.add_argument("--tables", nargs="+", help="only these tables of the study")
    step.add_argument("--all", action="store_true", help="every run there is under results, too")
    step.add_argument("--json", action="store_true", help="print JSON, for scripts")
    step.add_argument(
        "--watch",
        type=_positive,
        nargs="?",
        const=10,
        metavar="SECONDS",
        help="print it again every so many seconds (10), until Ctrl-C",
    )
    step = steps.add_parser("logs", help="print a run's log, and follow it while it grows")
    step.add_argument("run", nargs="+", help="a run's directory, or parts of its name")
    step.add_argument("--lines", type=_count, default=20, help="how many to begin with (20)")
    step.add_argument("--no-follow", action="store_true", help="print the last lines and return")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", help="a name in configs/studies")
    parser.add_argument(
        "--scale", default="smoke", help="a name in configs/scales (default: smoke)"
    )
    parser.add_argument("--seeds", type=_positive, help="number of seeds (default: the study's)")
    parser.add_argument("--tables", nargs="+", help="only these tables of the study")
