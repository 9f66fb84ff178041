"""Commands of a study: ``plan``, ``status``, ``logs``, ``table`` and ``report``."""

from argparse import ArgumentParser

from analysis.statistics.looks import Rule
from kd.cli import bundle, monitor, options, plan, results
from kd.cli.command import Command, Example, Group
from kd.cli.project import project_path


def _plan(parser: ArgumentParser) -> None:
    options.add_study(parser)
    parser.add_argument(
        "--budget", action="store_true", help="print hours, GPUs and energy per table instead"
    )
    parser.add_argument(
        "--gpus",
        type=options.positive,
        metavar="N",
        help="with --budget: compute the time on N GPUs (default: several numbers)",
    )
    parser.add_argument(
        "--next",
        action="store_true",
        help="print the rows that the sequential rule has decided, and the seeds to add next",
    )
    parser.add_argument(
        "--first",
        type=options.positive,
        metavar="N",
        help="with --next: number of seeds at the first look at the results "
        f"(default: {Rule.first})",
    )
    parser.add_argument(
        "--most",
        type=options.positive,
        metavar="N",
        help=f"with --next: number of seeds at the last look (default: {Rule.most})",
    )
    options.add_json(parser)


def _status(parser: ArgumentParser) -> None:
    parser.add_argument(
        "study",
        metavar="STUDY",
        nargs="?",
        help="name of a file in configs/studies (default: the last workflow's)",
    )
    parser.add_argument(
        "--scale", help="name of a file in configs/scales (default: the last workflow's)"
    )
    options.add_selection(parser)
    parser.add_argument("--all", action="store_true", help="add all other runs under results")
    options.add_json(parser)
    options.add_watch(parser, 10, "print the state again", "until Ctrl-C")


def _logs(parser: ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument(
        "--lines",
        type=options.count,
        default=20,
        metavar="N",
        help="number of last lines to print (default: 20)",
    )
    parser.add_argument(
        "--no-follow", action="store_true", help="exit after the last lines are printed"
    )


def _table(parser: ArgumentParser) -> None:
    options.add_study(parser)
    parser.add_argument(
        "--complete", action="store_true", help="fail if a run is missing, as the workflow needs"
    )


def _report(parser: ArgumentParser) -> None:
    options.add_study(parser)
    options.add_watch(parser, 30, "write the page again", "until all runs are finished or Ctrl-C")


def _bundle(parser: ArgumentParser) -> None:
    parser.add_argument(
        "study", metavar="STUDY", nargs="?", help="name of a file in configs/studies"
    )
    options.add_scale(parser)
    options.add_selection(parser)
    parser.add_argument(
        "--to",
        type=project_path,
        metavar="FILE",
        help="the file (default: bundle.zip in results/STUDY/SCALE)",
    )
    parser.add_argument("--weights", action="store_true", help="add the weights of every run")
    parser.add_argument(
        "--license", metavar="ID", help="license of the results, such as CC-BY-4.0 (default: none)"
    )
    parser.add_argument(
        "--verify",
        type=project_path,
        metavar="FILE",
        help="compute the tables of a bundle again from its detections, and compare; works outside "
        "a project",
    )


GROUP = Group(
    "Study",
    "what runs, how far it is, and its results",
    (
        Command(
            "plan",
            plan.print_plan,
            "list the rows of a study with their hours, or its budget",
            "List the rows of a study with their seeds and hours, or the hours, GPUs and energy of "
            "each table with --budget. Hours come from finished runs of the scale, otherwise from "
            "rehearsals, otherwise from multiply-adds. The list ends with the smallest gain "
            "that the planned seeds detect. With --next, print which rows are decided after the "
            "seeds measured so far, and the command that adds a seed to the others.",
            "nothing",
            (
                Example("plan demo", "all rows of the study demo"),
                Example("plan rm_pfi --scale paper --budget --gpus 8", "time on 8 GPUs"),
                Example("plan rm_pfi --tables table1,table5 --methods pfi", "some rows"),
                Example("plan demo --next --most 5", "the seeds to add, 5 at most"),
            ),
            _plan,
        ),
        Command(
            "rehearsals",
            plan.print_rehearsals,
            "print the speed, memory and failures of a study's rehearsed trainings",
            "Print a row for each distinct training of a study, with the time of a step and the "
            "memory that `snakemake rehearse` has measured. Below the rows, print the reason and "
            "the log of each failed rehearsal, and warnings.",
            "rehearsals.md, which also has checkpoints and gradients, to results/STUDY/SCALE",
            (Example("rehearsals demo", "the rehearsals of the study demo"),),
            options.add_study,
        ),
        Command(
            "status",
            monitor.print_status,
            "print the state of every run",
            "Print the state, progress and AP of every run of a study, and the jobs in Slurm's "
            "queue. Without a study, the runs are those of the last `snakemake`, or of "
            "configs/default.yaml before the first one.",
            "nothing",
            (
                Example("status", "runs of the last workflow"),
                Example("status demo --json", "the same as JSON, for scripts"),
            ),
            _status,
        ),
        Command(
            "logs",
            monitor.print_log,
            "print a run's log, and follow it while it grows",
            "Print the last lines of the log of the step that a run is at, and follow the log "
            "until the run ends. Paths and state are printed to stderr.",
            "nothing",
            (
                Example("logs gfl-r18-w0.5/alone", "by a part of the run's name"),
                Example("logs gfl rm+pfi --lines 100 --no-follow", "by several parts"),
            ),
            _logs,
        ),
        Command(
            "table",
            results.write_tables,
            "write a study's tables from finished runs",
            "Write the tables of a study from its finished runs, and print them as Markdown. "
            "Unfinished rows have their state in place of numbers.",
            "table.md, table.csv, table.tex, gains/TABLE.pdf and .png and, of a study with "
            "published numbers, claims.md to results/STUDY/SCALE, or to its folder `partial` while "
            "runs are missing",
            (Example("table demo", "tables of the study demo"),),
            _table,
        ),
        Command(
            "report",
            results.write_report,
            "write a study's HTML page from finished runs",
            "Write one HTML page with the tables, figures, runs and provenance of a study, and "
            "print its path. The page needs no network.",
            "report.html to results/STUDY/SCALE",
            (
                Example("report demo", "page of the study demo"),
                Example("report demo --watch 60", "write it again every minute"),
            ),
            _report,
        ),
        Command(
            "bundle",
            bundle.bundle_study,
            "write a study to one file that others can verify",
            "Write one file with all that the tables of a study were computed from: "
            "configurations, detections, ground truth, metrics, logs and provenance, also of "
            "failed runs. With --verify, measure the detections in such a file again, compute its "
            "tables, print every number that differs, and exit with status 1 if one does.",
            "bundle.zip to results/STUDY/SCALE, an RO-Crate; nothing with --verify",
            (
                Example("bundle demo", "bundle of the study demo, without weights"),
                Example("bundle demo --license CC-BY-4.0 --to demo.zip", "with a license"),
                Example("bundle --verify demo.zip", "compute its tables again"),
            ),
            _bundle,
            needs_project=False,
        ),
    ),
)
