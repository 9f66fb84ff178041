# The plan and the functions that the rules share. Nothing here imports torch.
import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from analysis.figures.paper_figures import paper_pictures
from analysis.figures.planning import left_out, plan_figures
from kd.common.errors import UserError
from kd.common.files import printable
from kd.records.inputs import VERSIONS
from kd.workflow.workflow import Workflow

try:
    WORKFLOW = Workflow.read(config)
    PLANS = {
        publication.study: (
            publication.plan,
            publication.study,
            publication.options.scale,
        )
        for publication in WORKFLOW.publications
    }
    FIGURES = {
        WORKFLOW.rule("figure", publication, figure.name): figure
        for publication in WORKFLOW.publications
        for figure in plan_figures(*PLANS[publication.study]).values()
    }
    WORKFLOW.add(run for figure in FIGURES.values() for run in figure.runs)
    PAPER_PICTURES = {
        WORKFLOW.rule("paper", publication, name.replace("-", "_")): picture
        for publication in WORKFLOW.publications
        for name, picture in paper_pictures(*PLANS[publication.study]).items()
    }
    LEFT_OUT = [line for planned in PLANS.values() for line in left_out(*planned)]
except UserError as error:
    raise WorkflowError(str(error))

if workflow.is_main_process:
    print(*LEFT_OUT, sep="\n", end="\n" * bool(LEFT_OUT), file=sys.stderr)

# `cores: all` is meant for jobs on this machine. On a cluster it would limit the threads of jobs.
if workflow.nodes is not None:
    workflow.global_resources["_cores"] = None

KD = f"{shlex.quote(sys.executable)} -m kd"
LOADING = f"--threads {WORKFLOW.cpu_threads} --workers {WORKFLOW.requests.workers}"
# A global of shell commands: a change of it makes no job run again.
TRACKING = WORKFLOW.tracking
PUBLISHED = [
    path for publication in WORKFLOW.publications for path in publication.files
]


def figure_files(wildcards):
    """Return the files of all figures; end Snakemake with a message if there are none."""
    if not FIGURES:
        no_figure("names none; add them under 'figures' of its file in configs/studies")
    return [path for figure in FIGURES.values() for path in figure.outputs]


def paper_figure_files(wildcards):
    """Return the files of the papers' figures; end Snakemake with a message if there are none."""
    if not PAPER_PICTURES:
        no_figure(
            "names none of its paper, or its rows are not selected; add 'paper: {figure: Figure 3}' "
            "to a figure of its file in configs/studies"
        )
    return [path for picture in PAPER_PICTURES.values() for path in picture.outputs]


def no_figure(reason):
    """End Snakemake with a message; it would print another exception with a traceback."""
    studies = ", ".join(publication.study for publication in WORKFLOW.publications)
    sys.exit(f"error: no figure to draw: study {studies} {reason}")


def require_data():
    try:
        WORKFLOW.require_data()
    except UserError as error:
        raise WorkflowError(str(error))


def write_runs():
    for run in [*WORKFLOW.classifiers.values(), *WORKFLOW.runs.values()]:
        run.write()


def is_rehearsal():
    """Return True if the target is `rehearse`, whose runs write no results."""
    return "rehearse" in workflow.dag_settings.targets


def write_rehearsals():
    for training in trainings().values():
        training.write_plan()


def print_rehearsals():
    for publication in WORKFLOW.publications:
        subprocess.run(
            [sys.executable, "-m", "kd", "rehearsals", *publication.arguments],
            check=False,
        )


def print_table():
    for publication in WORKFLOW.publications:
        table = publication.folder / "table.md"
        if table.exists():  # it does not after --until an earlier step
            print(printable(table.read_text(encoding="utf-8")))


def print_partial_table():
    """Print finished rows, failed rows with their reason, and rows that have not run."""
    from kd.monitoring.failures import record_failures

    record_failures()
    for publication in WORKFLOW.publications:
        subprocess.run(
            [sys.executable, "-m", "kd", "table", *publication.arguments], check=False
        )


REPORTS = [
    [sys.executable, "-m", "kd", "report", *publication.arguments]
    for publication in WORKFLOW.publications
]
WATCHERS = []
"""Processes that write the report every minute."""


def write_report():
    """Write the reports of the studies; print one line for each, also if it cannot be written."""
    for (
        watcher
    ) in WATCHERS:  # a watcher could overwrite the final report with an older one
        watcher.terminate()
        watcher.wait()
    for command in REPORTS:
        process = subprocess.run(
            command,
            check=False,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        lines = (process.stderr if process.returncode else process.stdout).splitlines()
        print(*map(printable, lines[-1:]))


def watch_report():
    """Start a process that writes the study's report every minute until the workflow ends.

    With several studies no report is watched; `kd report STUDY --watch` watches one of them.
    """
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if len(REPORTS) == 1:
        WATCHERS.append(subprocess.Popen([*REPORTS[0], "--watch", "60"], **quiet))


def teacher_weights(wildcards):
    return WORKFLOW.teacher_weights(wildcards.run)


def check_report(wildcards):
    return f"results/checks/{WORKFLOW.dataset_of(wildcards.run)}.json"


def generated_data(wildcards):
    return WORKFLOW.generated_data(wildcards.dataset)


def data_content(wildcards):
    """Return a text that changes with the content of a data set, which its check depends on.

    The main process alone compares it with that of an earlier check, so a job returns nothing.
    """
    return WORKFLOW.data_content(wildcards.dataset) if workflow.is_main_process else ""


RESOURCES = ("gpu", "nodes", "tasks", "mem_mb", "runtime")


def resources_by_job(request_of):
    """Return the resources of a rule; ``request_of`` returns a job's request for its wildcards."""
    return {
        name: lambda wildcards, name=name: getattr(request_of(wildcards), name)
        for name in RESOURCES
    }


def resources_of(request):
    """Return the resources of a rule that has one job."""
    return {name: getattr(request, name) for name in RESOURCES}


def training(wildcards):
    return WORKFLOW.training(wildcards.run)


def prediction(wildcards):
    return WORKFLOW.prediction(wildcards.run)
