# What the rules ask of the plan. Nothing here imports torch.
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from analysis.figures.planning import figures
from kd.common.errors import UserError
from kd.common.files import printable
from kd.records.inputs import VERSIONS
from kd.workflow.workflow import Workflow

try:
    WORKFLOW = Workflow.read(config)
    FIGURES = {
        WORKFLOW.rule("figure", publication, figure.name): figure
        for publication in WORKFLOW.publications
        for figure in figures(
            publication.plan, publication.study, WORKFLOW.asked.scale
        ).values()
    }
except UserError as error:
    raise WorkflowError(str(error))

# `cores: all` is meant for jobs on this machine; it would also limit the threads of a cluster's.
if workflow.nodes is not None:
    workflow.global_resources["_cores"] = None

KD = f"{shlex.quote(sys.executable)} -m kd"
LOADING = f"--threads {WORKFLOW.cpu_threads} --workers {WORKFLOW.workers}"
PUBLISHED = [path for each in WORKFLOW.publications for path in each.files]


def require_data():
    try:
        WORKFLOW.require_data()
    except UserError as error:
        raise WorkflowError(str(error))


def write_runs():
    for run in [*WORKFLOW.classifiers.values(), *WORKFLOW.runs.values()]:
        run.write()


def print_table():
    for publication in WORKFLOW.publications:
        table = publication.folder / "table.md"
        if table.exists():  # not so after --until an earlier step
            print(printable(table.read_text(encoding="utf-8")))


def print_partial_table():
    """Show what there is: finished rows, failed ones with their reason, rows not run."""
    from kd.monitoring.failures import record_failures

    record_failures()
    for publication in WORKFLOW.publications:
        subprocess.run(
            [sys.executable, "-m", "kd", "table", *publication.request], check=False
        )


REPORTS = [
    [sys.executable, "-m", "kd", "report", *publication.request]
    for publication in WORKFLOW.publications
]
WATCHING = []


def write_report():
    """Write the studies' pages; one that cannot be written is said in a line and stops nothing."""
    for watcher in WATCHING:  # else it could have the last word
        watcher.terminate()
        watcher.wait()
    for command in REPORTS:
        written = subprocess.run(
            command,
            check=False,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        told = (written.stderr if written.returncode else written.stdout).splitlines()
        print(*map(printable, told[-1:]))


def watch_report():
    """Have the study's page written every minute, for as long as this process runs.

    Of several studies none: `kd report STUDY --watch` does it for the one that is looked at.
    """
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if len(REPORTS) == 1:
        WATCHING.append(subprocess.Popen([*REPORTS[0], "--watch", "60"], **quiet))


def teacher_weights(wildcards):
    return WORKFLOW.teacher_weights(wildcards.run)


def check_report(wildcards):
    return f"results/checks/{WORKFLOW.dataset_of(wildcards.run)}.json"


def generated_data(wildcards):
    return WORKFLOW.generated_data(wildcards.dataset)


def data_content(wildcards):
    """Return what the check of a data set depends on.

    A job is never compared with what it did before, so it need not list the data set again.
    """
    return WORKFLOW.data_content(wildcards.dataset) if workflow.is_main_process else ""


RESOURCES = ("gpu", "nodes", "tasks", "mem_mb", "runtime")


def asked(demand):
    """Return the resources of a rule: what ``demand``, a function of wildcards, says."""
    return {
        name: lambda wildcards, name=name: getattr(demand(wildcards), name)
        for name in RESOURCES
    }


def needed(demand):
    """Return the resources of a rule for one job."""
    return {name: getattr(demand, name) for name in RESOURCES}


def training(wildcards):
    return WORKFLOW.training(wildcards.run)


def prediction(wildcards):
    return WORKFLOW.prediction(wildcards.run)
