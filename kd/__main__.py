"""The command line: every step of the pipeline, alone. ``kd --help`` imports no torch."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from kd import launch
from kd.errors import UserError
from kd.settings.library import Library


def main(arguments: list[str] | None = None) -> int:
    """Run one step; return the exit status.

    0, 1 for bad data, 2 for a user's mistake, 75 for a training that stopped on request.
    """
    try:
        options = _parser().parse_args(arguments)
        options.arguments = sys.argv[1:] if arguments is None else arguments
        return options.step(options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # an absent or unreadable file, a full disk
        from kd.provenance import reason

        print(f"error: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not launch.launched():
            print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see `{self.prog} --help`")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kd", description=__doc__)
    steps = parser.add_subparsers(title="steps", required=True, metavar="STEP")

    step = steps.add_parser("plan", help="list the runs of a study, or sum up what they take")
    _study(step, _plan)
    step.add_argument("--budget", action="store_true", help="hours, GPUs and energy by table")
    step.add_argument(
        "--gpus", type=_positive, metavar="N", help="with --budget: the time it takes on so many"
    )
    step = steps.add_parser("compose", help="print the composed configuration of runs")
    _study(step, _compose)
    step.add_argument("--run", default="", help="only runs whose name contains this")
    step.add_argument("--write", action="store_true", help="write run.json and config.json instead")
    step = steps.add_parser("table", help="write a study's tables from the results that exist")
    _study(step, _table)
    step = steps.add_parser("report", help="write a study's page, from the results that exist")
    _study(step, _report)
    step.add_argument(
        "--watch",
        type=_positive,
        nargs="?",
        const=30,
        metavar="SECONDS",
        help="write it again every so many seconds (30), until all runs are done or Ctrl-C",
    )

    _monitoring(steps)

    step = steps.add_parser("methods", help="print which method applies to which detector")
    step.add_argument("name", nargs="?", help="a method or preset, to be told all about it")
    step.set_defaults(step=_methods)
    step = steps.add_parser("draw", help="draw where the methods of trained runs look")
    _study(step, _draw)
    step.add_argument("--image", type=_count, default=0, help="number of the training image")
    step.add_argument("--to", type=Path, required=True, help="folder for one PNG a method")

    step = steps.add_parser("analyse", help="draw an analysis of runs, with its data and caption")
    step.add_argument("analysis", nargs="?", help="its name; without one, all are listed")
    step.add_argument("runs", type=Path, nargs="*", help="directories; none: what the analysis is")
    step.add_argument("--to", type=Path, help="folder for pictures, CSV and caption")
    step.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the analysis"
    )
    step.add_argument("--threads", type=_count, help="CPU threads of torch")
    step.set_defaults(step=_analyse)

    step = steps.add_parser("data", help="generate a built-in data set")
    step.add_argument("dataset", help="a name in configs/datasets")
    step.set_defaults(step=_data)
    step = steps.add_parser("check", help="verify a data set completely")
    step.add_argument("dataset", help="a name in configs/datasets")
    step.add_argument("--report", type=Path, help="write the full report to this JSON file")
    step.set_defaults(step=_check)

    step = steps.add_parser("classifier", help="compose a classifier's run; print its directory")
    step.add_argument("classifier", help="a name in configs/classifiers")
    step.add_argument("dataset", help="a name in configs/datasets")
    step.add_argument("--scale", default="smoke", help="a name in configs/scales (default: smoke)")
    step.add_argument("--seed", type=_count, default=0, help="seed of the training (default: 0)")
    step.set_defaults(step=_classifier)
    step = steps.add_parser("crops", help="cut out the objects that a classifier learns from")
    step.add_argument("crops", type=Path, help="a folder of crops, or a classifier's run")
    step.add_argument("--threads", type=_count, default=1, help="threads that cut")
    step.set_defaults(step=_crops)

    _running(steps)
    return parser


def _running(steps: Any) -> None:
    for name, action, text in (
        ("train", _train, "train a run, or go on training it"),
        ("predict", _predict, "write a run's detections or predictions on the test split"),
        ("evaluate", _evaluate, "write a run's metrics from its detections or predictions"),
        ("resample", _resample, "write a run's AP on 1,000 resamples of the test images"),
    ):
        step = steps.add_parser(name, help=text)
        step.add_argument("run", type=Path, help="the run's directory, with its config.json")
        step.set_defaults(step=action)
        if name in ("train", "predict"):
            step.add_argument("--workers", type=_count, default=0, help="data loading processes")
            step.add_argument("--threads", type=_count, help="CPU threads of torch")
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
    step.add_argument("--threads", type=_count, help="CPU threads of torch")
    step.add_argument("--to", type=Path, help="folder of what it writes (default: RUN/profile)")
    step.set_defaults(step=_profile)


def _monitoring(steps: Any) -> None:
    step = steps.add_parser("status", help="print where every run is")
    step.add_argument(
        "study", nargs="?", help="a name in configs/studies (default: the workflow's)"
    )
    step.add_argument("--scale", help="a name in configs/scales (default: the workflow's)")
    step.add_argument("--seeds", type=int, help="number of seeds")
    step.add_argument("--tables", nargs="+", help="only these tables of the study")
    step.add_argument("--all", action="store_true", help="every run there is under results, too")
    step.add_argument("--json", action="store_true", help="print JSON, for scripts")
    step.add_argument(
        "--watch",
        type=_count,
        nargs="?",
        const=10,
        metavar="SECONDS",
        help="print it again every so many seconds (10), until Ctrl-C",
    )
    step.set_defaults(step=_status)
    step = steps.add_parser("logs", help="print a run's log, and follow it while it grows")
    step.add_argument("run", nargs="+", help="a run's directory, or parts of its name")
    step.add_argument("--lines", type=_count, default=20, help="how many to begin with (20)")
    step.add_argument("--no-follow", action="store_true", help="print the last lines and return")
    step.set_defaults(step=_logs)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not _count(text):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _study(parser: argparse.ArgumentParser, step: object) -> None:
    parser.add_argument("study", help="a name in configs/studies")
    parser.add_argument(
        "--scale", default="smoke", help="a name in configs/scales (default: smoke)"
    )
    parser.add_argument("--seeds", type=int, help="number of seeds (default: the study's)")
    parser.add_argument("--tables", nargs="+", help="only these tables of the study")
    parser.set_defaults(step=step)


def _planned(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from kd.settings.plan import plan

    return plan(options.study, options.scale, Library(), options.seeds, options.tables)


def _plan(options: argparse.Namespace) -> None:
    from analysis import power
    from kd.settings import budget, cost

    if options.gpus and not options.budget:
        raise UserError("--gpus says what a budget is for; give --budget as well")
    planned, library = _planned(options), Library()
    if options.budget:
        print(budget.describe(planned, library, options.gpus))
    else:
        print(cost.describe(planned, library))
    print(power.describe(planned))


def _compose(options: argparse.Namespace) -> None:
    planned = _planned(options)
    everything = {**planned.classifiers, **planned.runs}
    runs = [run for name, run in everything.items() if options.run in name]
    if not runs:
        raise UserError(
            f"no run of the study contains '{options.run}'; see `kd plan {options.study}`"
        )
    for run in runs:
        if options.write:
            run.write()
            print(run.directory)
        else:
            print(json.dumps({"run": run.name, **run.config}, indent=2))


def _table(options: argparse.Namespace) -> None:
    from analysis.publish import publish

    print(publish(_planned(options), options.study, options.scale))


def _report(options: argparse.Namespace) -> None:
    from analysis.report.page import Request, watch, write

    request = Request(options.study, options.scale, options.seeds, options.tables)
    planned = _planned(options)
    if options.watch:
        watch(request, planned, Library(), options.watch)
    else:
        print(write(request, planned, Library()))


def _draw(options: argparse.Namespace) -> None:
    from analysis.focus import draw

    draw(_planned(options), options.to, options.image)


def _analyse(options: argparse.Namespace) -> None:
    from analysis import explain, figures
    from kd.settings.base import parse_assignments

    if not options.runs:
        print(explain.one(options.analysis) if options.analysis else explain.every())
        return
    if not options.to:
        raise UserError("--to is missing: the folder for pictures, CSV and caption")
    kind = figures.get(options.analysis)
    settings = kind.parse(parse_assignments(options.set), f"settings of '{options.analysis}'")
    if settings.runs_networks:
        _prepare(options.threads)
    from analysis.analyse import analyse

    for path in analyse(settings, options.runs, options.to, Library()):
        print(path)


def _status(options: argparse.Namespace) -> None:
    from kd.board import show
    from kd.look import Asked

    asked = Asked(options.study, options.scale, options.seeds, options.tables, options.all)
    show(asked, options.json, options.watch)


def _logs(options: argparse.Namespace) -> None:
    from kd.logs import follow

    follow(options.run, options.lines, not options.no_follow)


def _methods(options: argparse.Namespace) -> None:
    from kd.settings.matrix import describe, explain

    print(explain(options.name, Library()) if options.name else describe(Library()))


def _data(options: argparse.Namespace) -> None:
    from kd.data.shapes import generate

    dataset = Library().dataset(options.dataset, "kd data")
    if dataset.generate is None:
        raise UserError(f"configs/datasets/{options.dataset}.yaml: not a generated data set")
    generate(dataset.generate, Path(dataset.root))


def _check(options: argparse.Namespace) -> int:
    from kd.data.check import check
    from kd.files import write_json

    report = check(options.dataset, Library().dataset(options.dataset, "kd check"))
    print(report.describe())
    if report.errors:
        return 1
    if options.report:
        write_json(options.report, report.to_json())
    return 0


def _classifier(options: argparse.Namespace) -> None:
    from kd.settings.classifiers import classifier_run

    library = Library()
    library.scale(options.scale, "--scale")
    run = classifier_run(
        options.classifier, options.scale, options.dataset, options.seed, library, "kd classifier"
    )
    run.write()
    print(run.directory)


def _crops(options: argparse.Namespace) -> None:
    from kd.classifiers.cutting import build, describe
    from kd.settings.classifiers import Crops

    print(describe(build(Crops.read(options.crops), Library(), max(options.threads, 1))))


def _train(options: argparse.Namespace) -> int:
    launch.take_place()
    if options.processes > 1 and "RANK" not in os.environ:
        return launch.launch(options.run, options.processes, options.arguments)
    _prepare(options.threads)
    from kd.train import train

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


def _predict(options: argparse.Namespace) -> None:
    _prepare(options.threads)
    from kd.predict import predict

    predict(options.run, options.workers)


def _profile(options: argparse.Namespace) -> None:
    _prepare(options.threads)
    from analysis.profile_figure import write
    from kd.profiling.profile import Extent, profile
    from kd.profiling.table import describe

    extent = Extent(options.steps, options.batch, options.workers)
    found = profile(options.run, extent)
    print(describe(found))
    for path in write(found, options.to or options.run / "profile"):
        print(path)


def _evaluate(options: argparse.Namespace) -> None:
    from kd.measure import measure

    measure(options.run, Library())


def _resample(options: argparse.Namespace) -> None:
    from analysis.resampled import write

    write(options.run, Library())


def _prepare(threads: int | None) -> None:
    """Make ready for networks."""
    import gc

    from kd import grammar
    from kd.files import uncollected

    with uncollected():
        grammar.load()
        import kd.runtime  # noqa: F401
    gc.freeze()  # all of it stays, and every data set of mmengine has garbage collected
    if threads:
        import torch

        torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
