"""Parser of the command line: all commands with their arguments. It imports no torch."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kd.cli import analyze, data, evaluate, methods, monitor, options, plan, profile, results, train
from kd.common.errors import UserError

Command = Callable[[argparse.Namespace], int | None]


class _Parser(argparse.ArgumentParser):
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; a required argument may follow the words of a list."""
        try:
            return super().parse_known_args(args, namespace)
        except UserError:
            lists = [action for action in self._actions if isinstance(action, options.ListAction)]
            flags = [flag for action in lists for flag in action.option_strings]
            reordered = options.last_word_first(args, flags) if flags else None
            if reordered is None:
                raise
        return super().parse_known_args(reordered, namespace)

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
    options.add_study(parser)
    parser.add_argument(
        "--budget", action="store_true", help="print hours, GPUs and energy per table instead"
    )
    parser.add_argument(
        "--gpus",
        type=options.positive,
        metavar="N",
        help="with --budget: compute the time on N GPUs",
    )
    parser = _add(commands, "compose", plan.compose_runs, "print the configurations of runs")
    options.add_study(parser)
    parser.add_argument("--run", default="", help="select runs whose name contains this text")
    parser.add_argument(
        "--write", action="store_true", help="write run.json and config.json instead of printing"
    )
    parser = _add(
        commands, "table", results.write_tables, "write a study's tables from finished runs"
    )
    options.add_study(parser)
    parser = _add(
        commands, "report", results.write_report, "write a study's HTML page from finished runs"
    )
    options.add_study(parser)
    options.add_watch(parser, 30, "write the page again", "until all runs are finished or Ctrl-C")


def _add_figures(commands: Any) -> None:
    parser = _add(
        commands, "methods", methods.print_methods, "print which method applies to which detector"
    )
    parser.add_argument("name", nargs="?", help="method or preset to describe in detail")
    parser = _add(
        commands, "draw", analyze.draw_methods, "draw the image regions that methods distill"
    )
    options.add_study(parser)
    parser.add_argument(
        "--image", type=options.count, default=0, help="index of the training image (default: 0)"
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
    options.add_threads(parser)


def _add_data(commands: Any) -> None:
    parser = _add(commands, "data", data.generate_data, "generate a built-in data set")
    options.add_dataset(parser)
    parser = _add(
        commands, "check", data.check_data, "check all annotations and images of a data set"
    )
    options.add_dataset(parser)
    parser.add_argument("--report", type=Path, help="write the full report to this JSON file")

    parser = _add(
        commands,
        "classifier",
        plan.compose_classifier,
        "compose a classifier's run, and print its directory",
    )
    parser.add_argument("classifier", help="name of a file in configs/classifiers")
    options.add_dataset(parser)
    options.add_scale(parser)
    parser.add_argument(
        "--seed", type=options.count, default=0, help="seed of the training (default: 0)"
    )
    parser = _add(
        commands, "crops", data.cut_crops, "cut out the objects that a classifier is trained on"
    )
    parser.add_argument("crops", type=Path, help="folder of crops, or directory of a classifier")
    parser.add_argument(
        "--threads",
        type=options.positive,
        default=1,
        help="number of threads that cut (default: 1)",
    )


def _add_runs(commands: Any) -> None:
    _add_train(commands)
    parser = _add(
        commands,
        "predict",
        evaluate.predict_run,
        "write a run's detections or predictions on the test split",
    )
    options.add_run(parser)
    options.add_workers(parser)
    options.add_threads(parser)
    parser = _add(
        commands,
        "evaluate",
        evaluate.evaluate_run,
        "compute a run's metrics from its detections or predictions",
    )
    options.add_run(parser)
    parser = _add(
        commands,
        "resample",
        evaluate.resample_run,
        "compute a run's AP on 1,000 resamples of the test images",
    )
    options.add_run(parser)
    parser = _add(
        commands,
        "profile",
        profile.profile_run,
        "measure a run's training step by part, beside its lower bound",
    )
    options.add_run(parser)
    parser.add_argument(
        "--steps", type=options.positive, default=10, help="steps to take medians of (default: 10)"
    )
    parser.add_argument(
        "--batch", type=options.positive, help="images per step (default: the run's)"
    )
    options.add_workers(parser)
    options.add_threads(parser)
    parser.add_argument("--to", type=Path, help="folder for the results (default: RUN/profile)")


def _add_train(commands: Any) -> None:
    parser = _add(commands, "train", train.train_run, "train a run, or resume its training")
    options.add_run(parser)
    options.add_workers(parser)
    options.add_threads(parser)
    parser.add_argument("--report", type=Path, help="check report of the data set")
    parser.add_argument(
        "--val-interval",
        type=options.count,
        default=0,
        metavar="N",
        help="measure AP every N epochs, except after the last (default: 0, never)",
    )
    parser.add_argument(
        "--teacher-cache",
        type=options.count,
        default=0,
        metavar="MB",
        help="cache teacher outputs of images that later epochs repeat: up to MB in memory, and "
        "up to MB on disk per teacher (default: 0, no cache)",
    )
    parser.add_argument(
        "--processes",
        type=options.positive,
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
    options.add_selection(parser)
    parser.add_argument("--all", action="store_true", help="add all other runs under results")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    options.add_watch(parser, 10, "print the state again", "until Ctrl-C")
    parser = _add(
        commands, "logs", monitor.print_log, "print a run's log, and follow it while it grows"
    )
    parser.add_argument("run", nargs="+", help="directory of a run, or parts of its name")
    parser.add_argument(
        "--lines",
        type=options.count,
        default=20,
        help="number of last lines to print (default: 20)",
    )
    parser.add_argument(
        "--no-follow", action="store_true", help="exit after the last lines are printed"
    )
