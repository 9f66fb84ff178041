"""Commands that look at methods and results: ``methods`` and ``figures``."""

from argparse import ArgumentParser

from kd.cli import look, options
from kd.cli.command import Command, Example, Group


def _methods(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name",
        metavar="METHOD",
        nargs="?",
        help="method or preset to describe in detail (default: list all)",
    )
    parser.add_argument("--all", action="store_true", help="list the presets of methods as well")
    parser.add_argument(
        "--grid", action="store_true", help="print a grid of methods and detectors instead"
    )
    options.add_json(parser)


def _figures(parser: ArgumentParser) -> None:
    parser.add_argument(
        "analysis",
        metavar="ANALYSIS",
        nargs="?",
        help="name of the analysis (default: list all)",
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="*",
        type=options.run_word,
        help="directory of a run, or a part of its name (default: describe the analysis)",
    )
    options.add_folder(
        parser, "folder for pictures, CSV and caption (default: results/analyses/ANALYSIS)"
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the analysis (default: those that `kd figures ANALYSIS` prints)",
    )
    options.add_threads(parser)


GROUP = Group(
    "Look",
    "methods, and figures of finished runs",
    (
        Command(
            "methods",
            look.print_methods,
            "list the methods, or describe one",
            "Print the distillation methods with what each distills and the detectors it applies "
            "to; with a name, its loss, sources, settings and presets.",
            "nothing",
            (
                Example("methods", "all methods"),
                Example("methods --grid", "the detectors of all methods in a grid"),
                Example("methods fkd", "one method in detail"),
            ),
            _methods,
        ),
        Command(
            "figures",
            look.draw_figures,
            "draw an analysis of finished runs",
            "Draw the figures of an analysis from finished runs, which need not be of one study. "
            "Without runs, describe the analysis and its settings; without a name, list all "
            "analyses. `snakemake figures` draws those of a study, and `snakemake paper_figures` "
            "the figures of its paper.",
            "pictures (PDF and PNG), their numbers (CSV) and a caption to "
            "results/analyses/ANALYSIS, or to --to",
            (
                Example("figures", "all analyses"),
                Example("figures tide", "one analysis and its settings"),
                Example(
                    "figures tide retinanet-r18-w0.25/alone retinanet-r18-w0.25/rm_from",
                    "draw it for two runs of the study demo",
                ),
                Example(
                    "figures regions retinanet-r18-w0.25/rm_from --set image=3",
                    "regions of an image that a method distills",
                ),
            ),
            _figures,
            aliases=("analyze", "analyse"),
            needs_project=False,
        ),
    ),
)
