"""The command line: every step of the pipeline, alone. ``kd --help`` imports no torch."""

import argparse
import io
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kd.cli.arguments import parser
from kd.cli.terminal import log_to_terminal
from kd.common.errors import UserError
from kd.config.library import Library
from kd.training import launch

UNREAD = 128 + signal.SIGPIPE
"""Exit status where the output's reader is gone: that of a program that SIGPIPE ends."""


def main(arguments: list[str] | None = None) -> int:
    """Run one step; return the exit status.

    0, 1 for bad data, 2 for a user's mistake, 75 for a training that stopped on request, 141 where
    nobody reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that a locale lacks is no failure
            stream.reconfigure(errors="replace")
    log_to_terminal()
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if _is_unread():
            return UNREAD
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(arguments: list[str] | None) -> int:
    """Run one step; return the exit status. BrokenPipeError where nobody reads the output."""
    try:
        options = parser(__doc__).parse_args(arguments)
        options.arguments = sys.argv[1:] if arguments is None else arguments
        return STEPS[options.step](options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:  # an absent or unreadable file, a full disk
        from kd.records.provenance import reason

        print(f"error: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not launch.launched():
            print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _is_unread() -> bool:
    """Return True if nobody reads what is printed any more, as behind ``| head``.

    What is left of it then goes nowhere, since Python would complain of it at its end.
    """
    stdout = sys.stdout.fileno()
    polled = select.poll()
    polled.register(stdout, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in polled.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


def _planned(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from kd.config.plan import plan

    return plan(options.study, options.scale, Library(), options.seeds, options.tables)


def _plan(options: argparse.Namespace) -> None:
    from analysis.statistics import power
    from kd.workflow import budget, cost

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
    from analysis.tables.write import publish

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
    from analysis.figures.focus.plot import draw

    draw(_planned(options), options.to, options.image)


def _analyze(options: argparse.Namespace) -> None:
    from analysis import figures
    from analysis.figures import explain
    from kd.common.schema import parse_assignments

    if not options.runs:
        print(explain.one(options.analysis) if options.analysis else explain.every())
        return
    if not options.to:
        raise UserError("--to is missing: the folder for pictures, CSV and caption")
    kind = figures.get(options.analysis)
    settings = kind.parse(parse_assignments(options.set), f"settings of '{options.analysis}'")
    if settings.runs_networks:
        _prepare(options.threads)
    from analysis.figures.analyze import analyze

    for path in analyze(settings, options.runs, options.to, Library()):
        print(path)


def _status(options: argparse.Namespace) -> None:
    from kd.monitoring.runs import StatusOptions
    from kd.monitoring.table import status_reports

    selection = StatusOptions(
        options.study, options.scale, options.seeds, options.tables, options.all
    )
    try:
        for report in status_reports(selection, options.json, options.watch):
            print(report, flush=True)
    except KeyboardInterrupt:
        if not options.watch:
            raise


def _logs(options: argparse.Namespace) -> None:
    from kd.monitoring.logs import RunLog

    with suppress(KeyboardInterrupt):
        log = RunLog(options.run)
        # The log alone goes to stdout, for pipes.
        print(log.paths(), log.state(), sep="\n", file=sys.stderr, flush=True)
        follow = log.is_live and not options.no_follow
        for text in log.text(options.lines, follow):
            print(text, end="", flush=True)
        if follow:
            print(log.state(), file=sys.stderr)
        elif not log.path.exists():
            print(f"{log.path}: not written yet", file=sys.stderr)


def _methods(options: argparse.Namespace) -> None:
    from kd.config.applicability import describe, explain

    print(explain(options.name, Library()) if options.name else describe(Library()))


def _data(options: argparse.Namespace) -> None:
    from kd.data.builtin.shapes import generate

    dataset = Library().dataset(options.dataset, "kd data")
    if dataset.generate is None:
        raise UserError(f"configs/datasets/{options.dataset}.yaml: not a generated data set")
    generate(dataset.generate, Path(dataset.root))


def _check(options: argparse.Namespace) -> int:
    from kd.common.files import write_json
    from kd.data.check import check

    report = check(options.dataset, Library().dataset(options.dataset, "kd check"))
    print(report.describe())
    if report.errors:
        return 1
    if options.report:
        write_json(options.report, report.to_json())
    return 0


def _classifier(options: argparse.Namespace) -> None:
    from kd.config.classifiers import classifier_run
    from kd.config.stand_ins import stand_in

    library, where = Library(), "kd classifier"
    scale = library.scale(options.scale, "--scale")
    library.classifier(options.classifier, where)
    library.dataset(options.dataset, where)
    name = stand_in("classifiers", options.classifier, scale, options.scale, where)
    dataset = stand_in("datasets", options.dataset, scale, options.scale, where)
    run = classifier_run(name, options.scale, dataset, options.seed, library, where)
    run.write()
    print(run.directory)


def _crops(options: argparse.Namespace) -> None:
    from kd.classifiers.cutting import build, describe
    from kd.config.run import Crops

    print(describe(build(Crops.read(options.crops), Library(), max(options.threads, 1))))


def _train(options: argparse.Namespace) -> int:
    launch.take_place()
    if options.processes > 1 and "RANK" not in os.environ:
        return launch.launch(options.run, options.processes, options.arguments)
    _prepare(options.threads)
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


def _predict(options: argparse.Namespace) -> None:
    _prepare(options.threads)
    from kd.evaluation.predict import predict

    predict(options.run, options.workers)


def _profile(options: argparse.Namespace) -> None:
    _prepare(options.threads)
    from analysis.figures.profile.plot import write
    from kd.profiling.profile import Extent, profile
    from kd.profiling.table import describe

    extent = Extent(options.steps, options.batch, options.workers)
    found = profile(options.run, extent)
    print(describe(found))
    for path in write(found, options.to or options.run / "profile"):
        print(path)


def _evaluate(options: argparse.Namespace) -> None:
    from kd.evaluation.evaluate import measure

    measure(options.run, Library())


def _resample(options: argparse.Namespace) -> None:
    from analysis.statistics.resampled import write

    write(options.run, Library())


def _prepare(threads: int | None) -> None:
    """Make ready for networks."""
    import gc

    from kd.common import yapf_cache
    from kd.common.files import uncollected

    with uncollected():
        yapf_cache.load()
        import kd.runtime  # noqa: F401
    gc.freeze()  # all of it stays, and every data set of mmengine has garbage collected
    if threads:
        import torch

        torch.set_num_threads(threads)


STEPS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "plan": _plan,
    "compose": _compose,
    "table": _table,
    "report": _report,
    "status": _status,
    "logs": _logs,
    "methods": _methods,
    "draw": _draw,
    "analyze": _analyze,
    "data": _data,
    "check": _check,
    "classifier": _classifier,
    "crops": _crops,
    "train": _train,
    "predict": _predict,
    "evaluate": _evaluate,
    "resample": _resample,
    "profile": _profile,
}
