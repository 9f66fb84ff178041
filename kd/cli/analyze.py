"""Commands that draw figures of trained runs: ``analyze`` and ``draw``."""

from argparse import Namespace

from kd.cli.networks import load_networks
from kd.cli.plan import plan_of
from kd.common.errors import UserError
from kd.config.library import Library


def analyze_runs(options: Namespace) -> None:
    """Write the figures of an analysis; without runs, print what the analysis is."""
    from analysis import figures
    from analysis.figures import explain
    from kd.common.schema import parse_assignments

    if not options.runs:
        print(explain.describe(options.analysis) if options.analysis else explain.describe_all())
        return
    if not options.to:
        raise UserError("--to is missing: the folder for pictures, CSV and caption")
    kind = figures.get(options.analysis)
    settings = kind.parse(parse_assignments(options.set), f"settings of '{options.analysis}'")
    if settings.runs_networks:
        load_networks(options.threads)
    from analysis.figures.analyze import analyze

    for path in analyze(settings, options.runs, options.to, Library()):
        print(path)


def draw_methods(options: Namespace) -> None:
    """Draw the regions that the methods of a study's finished runs distill."""
    from analysis.figures.regions.analysis import Regions
    from kd.config.compose import WEIGHTS

    runs = [run for run in plan_of(options).runs.values() if run.method]
    finished = [run.directory for run in runs if (run.directory / WEIGHTS).exists()]
    if not finished:
        raise UserError("no distilled run of the study has been trained yet")
    load_networks(None)
    from analysis.figures.analyze import analyze

    for path in analyze(Regions(image=options.image), finished, options.to, Library()):
        print(path)
