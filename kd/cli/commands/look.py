"""Commands that look at methods and results: ``methods`` and ``figures``."""

from argparse import ArgumentParser

from kd.cli import card, look, options
from kd.cli.command import Command, Example, Group
from kd.cli.project import project_path


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
    parser.add_argument(
        "--bibtex", action="store_true", help="print the BibTeX entries of the papers instead"
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


def _card(parser: ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--to",
        type=project_path,
        metavar="PATH",
        help="file that ends in .md, or folder for a README.md (default: the run's directory)",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="license of the weights, such as apache-2.0 (default: that of an earlier card, or "
        "unknown)",
    )
    options.add_list(
        parser, "--datasets", "ID", "identifiers of the data set on a hub (default: none)"
    )


GROUP = Group(
    "Look",
    "methods, figures and model cards of finished runs",
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
            "card",
            card.write_model_card,
            "write the model card of a run",
            "Write what a user of a trained detector must know: data, training, AP with intervals "
            "in all and by class, the gain over the student alone, calibration, size, latency if "
            "measured, limits, license and provenance. The metadata before it are those of Hugging "
            "Face. Parts between marks are for the author; a later card preserves them.",
            "README.md to the run's directory, or the file of --to; resampled.npz if it is absent",
            (
                Example("card retinanet-r18-w0.25/rm_from", "the card of a run of the study demo"),
                Example(
                    "card retinanet-r18-w0.25/rm_from --to card.md --license mit",
                    "another file, and the license of the weights",
                ),
            ),
            _card,
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
