"""Parser of the command line: all commands with their arguments. It imports no torch."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from kd.cli import analyze, data, evaluate, methods, monitor, plan, profile, results, train
from kd.common.errors import UserError

Command = Callable[[argparse.Namespace], int | None]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the parsed options have the function ``run_command``."""
    parser = _Parser(
        prog="kd",
        description="Knowledge distillation of object detectors: run any step of the pipeline.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add_group in (_add_studies, _add_monitoring, _add_figures, _add_data, _add_runs):
        add_group(commands)
    return parser


def _add(commands: Any, name: str, run_command: Command, text: str) -> argparse.ArgumentParser:
    """Add a command and return its parser; ``text`` is its line in the help."""
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run_command=run_command)
    return parser


def _add_studies(commands: Any) -> None:
    parser = _add(commands, "plan", plan.print_plan, "list the runs of a study, or their budget")
    _add_study(parser)
    parser.add_argument(
        "--budget", action="store_true", help="print hours, GPUs and energy per table instead"
    )
    parser.add_argument(
        "--gpus", type=_positive, metavar="N", help="with --budget: compute the time on N GPUs"
    )
    parser = _add(commands, "compose", plan.compose_runs, "print the configurations of runs")
    _add_study(parser)
    parser.add_argument("--run", default="", help="select runs whose name contains this text")
    parser.add_argument(
        "--write", action="store_true", help="write run.json and config.json instead of printing"
    )
    parser = _add(
        commands, "table", results.write_tables, "write a study's tables from finished runs"
    )
    _add_study(parser)
    parser = _add(
        commands, "report", results.write_report, "write a study's HTML page from finished runs"
    )
    _add_study(parser)
    _add_watch(parser, 30, "write the page again", "until all runs are finished or Ctrl-C")


def _add_figures(commands: Any) -> None:
    parser = _add(
        commands, "methods", methods.print_methods, "print which method applies to which detector"
    )
    parser.add_argument("name", nargs="?", help="method or preset to describe in detail")
    parser = _add(
        commands, "draw", analyze.draw_methods, "draw the image regions that methods distill"
    )
    _add_study(parser)
    parser.add_argument(
        "--image", type=_count, default=0, help="index of the training image (default: 0)"
    )
    parser.add_argument("--to", type=Path, required=True, help="folder for one PNG per method")

    parser = _add(
        commands, "analyze", analyze.analyze_runs, "draw an analysis of runs, with data and caption"
    )
    parser.add_argument("analysis", nargs="?", help="name of the analysis (default: list all)")
    parser.add_argument(
        "runs", type=Path, nargs="*", help="directories of runs (default: describe the analysis)"
    )
    parser.add_argument("--to", type=Path, help="folder for pictures, CSV and caption")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the analysis"
    )
    _add_threads(parser)


def _add_data(commands: Any) -> None:
    parser = _add(commands, "data", data.generate_data, "generate a built-in data set")
    _add_dataset(parser)
    parser = _add(
        commands, "check", data.check_data, "check all annotations and images of a data set"
    )
    _add_dataset(parser)
    parser.add_argument("--report", type=Path, help="write the full report to this JSON file")

    parser = _add(
        commands,
        "classifier",
        plan.compose_classifier,
        "compose a classifier's run, and print its directory",
    )
    parser.add_argument("classifier", help="name of a file in configs/classifiers")
    _add_dataset(parser)
    _add_scale(parser)
    parser.add_argument("--seed", type=_count, default=0, help="seed of the training (default: 0)")
    parser = _add(
        commands, "crops", data.cut_crops, "cut out the objects that a classifier is trained on"
    )
    parser.add_argument("crops", type=Path, help="folder of crops, or directory of a classifier")
    parser.add_argument(
        "--threads", type=_positive, default=1, help="number of threads that cut (default: 1)"
    )


def _add_runs(commands: Any) -> None:
    _add_train(commands)
    parser = _add(
        commands,
        "predict",
        evaluate.predict_run,
        "write a run's detections or predictions on the test split",
    )
    _add_run(parser)
    _add_workers(parser)
    _add_threads(parser)
    parser = _add(
        commands,
        "evaluate",
        evaluate.evaluate_run,
        "compute a run's metrics from its detections or predictions",
    )
    _add_run(parser)
    parser = _add(
        commands,
        "resample",
        evaluate.resample_run,
        "compute a run's AP on 1,000 resamples of the test images",
    )
    _add_run(parser)
    parser = _add(
        commands,
        "profile",
        profile.profile_run,
        "measure a run's training step by part, beside its lower bound",
    )
    _add_run(parser)
    parser.add_argument(
        "--steps", type=_positive, default=10, help="steps to take medians of (default: 10)"
    )
    parser.add_argument("--batch", type=_positive, help="images per step (default: the run's)")
    _add_workers(parser)
    _add_threads(parser)
    parser.add_argument("--to", type=Path, help="folder for the results (default: RUN/profile)")


def _add_train(commands: Any) -> None:
    parser = _add(commands, "train", train.train_run, "train a run, or resume its training")
    _add_run(parser)
    _add_workers(parser)
    _add_threads(parser)
    parser.add_argument("--report", type=Path, help="check report of the data set")
    parser.add_argument(
        "--val-interval",
        type=_count,
        default=0,
        metavar="N",
        help="measure AP every N epochs, except after the last (default: 0, never)",
    )
    parser.add_argument(
        "--teacher-cache",
        type=_count,
        default=0,
        metavar="MB",
        help="cache teacher outputs of images that later epochs repeat: up to MB in memory, and "
        "up to MB on disk per teacher (default: 0, no cache)",
    )
    parser.add_argument(
        "--processes",
        type=_positive,
        default=1,
        metavar="N",
        help="share the batch among N processes with a GPU each: the tasks of a Slurm job, "
        "or processes on this machine (default: 1)",
    )


def _add_monitoring(commands: Any) -> None:
    parser = _add(commands, "status", monitor.print_status, "print the state of every run")
    parser.add_argument(
        "study", nargs="?", help="name of a file in configs/studies (default: the workflow's)"
    )
    parser.add_argument(
        "--scale", help="name of a file in configs/scales (default: the workflow's)"
    )
    _add_selection(parser)
    parser.add_argument("--all", action="store_true", help="add all other runs under results")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    _add_watch(parser, 10, "print the state again", "until Ctrl-C")
    parser = _add(
        commands, "logs", monitor.print_log, "print a run's log, and follow it while it grows"
    )
    parser.add_argument("run", nargs="+", help="directory of a run, or parts of its name")
    parser.add_argument(
        "--lines", type=_count, default=20, help="number of last lines to print (default: 20)"
    )
    parser.add_argument(
        "--no-follow", action="store_true", help="exit after the last lines are printed"
    )


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", help="name of a file in configs/studies")
    _add_scale(parser)
    _add_selection(parser)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_positive, help="number of seeds (default: the study's)")
    parser.add_argument("--tables", nargs="+", help="select these tables of the study")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    text = "name of a file in configs/scales (default: smoke)"
    parser.add_argument("--scale", default="smoke", help=text)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="name of a file in configs/datasets")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="directory of the run, which has its config.json")


def _add_workers(parser: argparse.ArgumentParser) -> None:
    text = "number of processes that load data (default: 0, load in the main process)"
    parser.add_argument("--workers", type=_count, default=0, help=text)


def _add_threads(parser: argparse.ArgumentParser) -> None:
    text = "number of CPU threads of torch (default: torch's)"
    parser.add_argument("--threads", type=_positive, help=text)


def _add_watch(parser: argparse.ArgumentParser, seconds: int, action: str, until: str) -> None:
    parser.add_argument(
        "--watch",
        type=_positive,
        nargs="?",
        const=seconds,
        metavar="SECONDS",
        help=f"{action} every SECONDS seconds (default: {seconds}), {until}",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)
