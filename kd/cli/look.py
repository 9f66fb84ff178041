"""Commands that describe methods and draw figures: ``methods`` and ``figures``."""

from argparse import Namespace
from pathlib import Path

from kd.cli.networks import load_networks
from kd.common.errors import UserError
from kd.common.results import RESULTS

ANALYSES = RESULTS / "analyses"
"""Folder of the figures that ``kd figures`` draws, in a folder for each analysis."""


def print_methods(options: Namespace) -> None:
    """Print the methods, with their presets on request, or one method in detail."""
    from kd.config.applicability import bibtex, describe, explain, grid, methods_json
    from kd.config.library import Library

    if options.name and (options.all or options.json or options.grid):
        raise UserError(f"'{options.name}' with --all, --grid or --json: give one of them")
    if options.bibtex and (options.all or options.json or options.grid):
        raise UserError("--bibtex with --all, --grid or --json: give one of them")
    if options.bibtex:
        print(bibtex(options.name or "", Library()))
    elif options.json:
        print(methods_json(Library()))
    elif options.name:
        print(explain(options.name, Library()))
    elif options.grid:
        print(grid(Library()))
    else:
        print(describe(Library(), options.all))


def draw_figures(options: Namespace) -> None:
    """Draw the figures of an analysis; without runs, print the analyses or describe one."""
    from analysis import figures
    from analysis.figures import explain
    from kd.common.schema import parse_assignments
    from kd.config.library import Library
    from kd.monitoring.run_names import find_run

    if not options.analysis:
        print(explain.describe_all())
        return
    if not options.runs:
        print(explain.describe(options.analysis))
        return
    kind = figures.get(options.analysis)
    settings = kind.parse(parse_assignments(options.set), f"settings of '{options.analysis}'")
    runs: list[Path] = [find_run(word) for word in options.runs]
    if settings.runs_networks:
        load_networks(options.threads)
    from analysis.figures.analyze import analyze

    for path in analyze(settings, runs, options.to or ANALYSES / options.analysis, Library()):
        print(path)
