"""Reference of the command line, ``docs/reference/cli.md``: ``python -m docs.build.cli``."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from docs.build.markdown import grid
from kd.cli.command import EXIT_STATUSES, TOP_EXAMPLES, Command, Example
from kd.cli.parser import GROUPS, build_parser
from kd.common.documents import SCHEMA_VERSION
from kd.common.files import write_text
from kd.monitoring.status import STATES

PAGE = Path("docs/reference/cli.md")
INTRODUCTION = """\
# Command line

`kd` runs any step of the pipeline alone. `snakemake` runs all steps of a study in order, with the
same commands. This page is generated from the help of the commands by `python -m docs.build.cli`; a
test compares them.

- **Project.** Every command works in any folder of the project. `kd` finds the project's folder,
  the nearest one with `configs/default.yaml`, from the working directory upwards. Paths on the
  command line are relative to the working directory.
- **RUN** is the directory of a run, or one or more parts of its name that no other run has, such as
  the part before `/seed0` or the eight digits at the end. `kd status` prints both. `kd figures`
  reads several runs; there each part names one.
- **Lists** have commas or spaces: `--tables table1,table5` equals `--tables table1 table5`.
- **Scale.** Without `--scale`, the scale is that of `configs/default.yaml`. Only `kd status` uses
  the scale of the last workflow instead.
- **Messages.** A mistake in the input prints one line on stderr with the file, the key and the
  remedy.
"""
JSON_INTRODUCTION = """\
`--json` prints one JSON object for scripts. Its key `schema` is {version}. The number rises when a
key is removed or changes its meaning; new keys do not change it. In the tables, `a[].b` is the key
`b` of every element of the list `a`, and `a.*` is every key of the object `a`. A value that is not
known is `null`. `kd compose` prints a JSON array of configurations, each with the name of its run
under `run`, and no schema number."""
DOCUMENTS: dict[str, dict[str, str]] = {
    "kd plan STUDY --json": {
        "scale": "scale of the runs",
        "rows[].key": "key of a row, whose parts `--rows` selects",
        "rows[].table": "key of its table in the study",
        "rows[].kind": "`teacher`, `baseline`, `control` or `distilled`",
        "rows[].detector": "detector, as the study names it",
        "rows[].teacher": "backbone of the teacher, or an empty text",
        "rows[].student": "backbone of the student, or an empty text in a teacher's row",
        "rows[].method": "method or preset",
        "rows[].runs": "names of the row's runs, one for each seed",
        "runs[].name": "name of the run; its directory is `results/runs/NAME`, or "
        "`results/classifiers/NAME` for a classifier",
        "runs[].teachers": "names of the runs that must be trained before",
        "runs[].images": "images that the training reads, all epochs together",
        "runs[].finished": "true after the training has ended",
        "runs[].hours": "measured hours of a finished training, or estimated remaining hours",
        "runs[].gpu_hours": "measured GPU hours of a finished training",
        "runs[].energy_kwh": "measured energy of the GPUs of a finished training, in kWh",
        "runs[].estimate": "source of the estimate: `measured` (same run, other seed), `corrected` "
        "(multiply-adds, corrected by finished runs of the scale) or `modeled` (multiply-adds)",
        "total.*": "sums over all runs, with the keys of `tables[]` below",
    },
    "kd plan STUDY --budget --json": {
        "scale": "scale of the runs",
        "gpus_per_training": "GPUs of each training; 0 on the CPU",
        "tables[].table": "key of the table in the study",
        "tables[].runs": "trainings of the table, with teachers and baselines",
        "tables[].finished": "trainings that have ended",
        "tables[].without_estimate": "trainings whose hours are unknown, so absent from the sums",
        "tables[].used_hours": "measured hours of the finished trainings",
        "tables[].used_gpu_hours": "measured GPU hours of the finished trainings",
        "tables[].remaining_hours": "estimated hours of the other trainings",
        "tables[].remaining_gpu_hours": "their estimated GPU hours",
        "total.*": "the same keys over all trainings; one that tables share counts once",
        "wall[].gpus": "number of GPUs; on the CPU the key is `cpu_threads`",
        "wall[].trainings_at_once": "trainings that run at the same time",
        "wall[].hours": "estimated hours until the last training ends",
    },
    "kd status STUDY --json": {
        "runs[].run": "directory of the run",
        "runs[].state": "one of " + ", ".join(f"`{state}`" for state in STATES),
        "runs[].detail": "the state, or a finer word such as `evaluating` or `pending`",
        "runs[].note": "explanation of the state, or an empty text",
        "runs[].job": "id of the Slurm job",
        "runs[].node": "node of the Slurm job",
        "runs[].epoch": "epoch that the training is in, from 1",
        "runs[].epochs": "epochs of the training",
        "runs[].step": "steps that the training has made",
        "runs[].steps": "steps of the training",
        "runs[].images_per_second": "images a second",
        "runs[].seconds_left": "estimated seconds until the training ends",
        "runs[].seconds": "estimated seconds of the whole training",
        "runs[].metric": "name of the metric: `AP`, or `top-1` for a classifier",
        "runs[].figure": "value of the metric in percent, as tables print it",
        "runs[].split": "split of the figure of an unfinished training, `val` or `test`, or null",
        "runs[].log": "file with the output of the training",
        "runs[].slurm_log": "file with the output of the Slurm job",
        "other_jobs[]": "jobs in Slurm's queue that are not trainings of these runs, with the keys "
        "of `runs[]`",
        "trouble": "reason why Slurm's queue could not be read",
        "states.*": "number of runs in a state",
        "seconds_left": "estimated seconds until all runs are trained",
    },
    "kd methods --json": {
        "detectors": "names of all detectors",
        "methods[].name": "name of the method in studies",
        "methods[].title": "title of the method in tables",
        "methods[].distills": "what the method distills",
        "methods[].detectors": "detectors that the method applies to",
        "methods[].refused.*": "reason of the refusal, by detector",
        "methods[].presets[].name": "name of a preset in studies",
        "methods[].presets[].title": "what the preset is",
        "methods[].presets[].detectors": "detectors that the preset applies to",
        "methods[].presets[].refused.*": "reason of the refusal, by detector",
    },
    "kd check DATASET --json": {
        "name": "name of the data set",
        "root": "its folder",
        "usable": "true without errors",
        "errors[].where": "file or folder of an error",
        "errors[].what": "the error",
        "dirt[]": "annotations that are left out, with the keys of `errors[]`",
        "notes[]": "harmless findings, with the keys of `errors[]`",
        "splits.*.*": "counts of a split: images, boxes, boxes per class, and what training and "
        "AP use (the fields of `SplitCounts` in kd/data/check.py)",
        "fingerprint": "SHA-256 of the fingerprints of both splits; `null` for an absent data set",
    },
}
"""Keys of the JSON documents, with their meaning."""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())


def page() -> str:
    """Return the text of the page."""
    parsers = build_parser().command_parsers
    parts = [INTRODUCTION, *_overview()]
    for group in GROUPS:
        parts.append(f"## {group.title}: {group.purpose}\n")
        parts += (_command(command, parsers[command.name]) for command in group.commands)
    parts += ["## Exit statuses\n", _statuses(), "## JSON\n", *_documents()]
    return "\n".join(parts)


def _overview() -> Iterator[str]:
    rows = [
        [group.title, f"[`kd {command.name}`](#kd-{command.name})", command.summary]
        for group in GROUPS
        for command in group.commands
    ]
    yield grid(["", "command", "purpose"], rows) + "\n"
    yield _examples(TOP_EXAMPLES)


def _command(command: Command, parser: argparse.ArgumentParser) -> str:
    """Return the section of a command."""
    parser.prog = f"kd {command.name}"
    usage = parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n")
    lines = [f"### kd {command.name}\n", command.text + "\n", f"Writes {command.writes}.\n"]
    if command.aliases:
        names = " and ".join(f"`kd {alias}`" for alias in command.aliases)
        lines.append(f"Other names: {names}.\n")
    lines += [f"```\n{usage}```\n", _arguments(parser) + "\n", _examples(command.examples)]
    return "\n".join(lines)


def _arguments(parser: argparse.ArgumentParser) -> str:
    rows = [
        [f"`{_name(action)}`", (action.help or "").replace("|", r"\|")]
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction)
    ]
    return grid(["argument", "meaning"], rows)


def _name(action: argparse.Action) -> str:
    """Return an argument as the help prints it: name and placeholder of its value."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    placeholder = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    more = " ..." if action.nargs == "+" else ""
    return f"{', '.join(action.option_strings)}{placeholder}{more}"


def _examples(examples: tuple[Example, ...]) -> str:
    lines = [f"kd {one.command}" for one in examples]
    width = max(map(len, lines))
    pairs = zip(lines, examples, strict=True)
    text = "\n".join(f"{line:{width}}  # {one.purpose}" for line, one in pairs)
    return f"```\n{text}\n```\n"


def _statuses() -> str:
    rows = [[str(status), meaning] for status, meaning in EXIT_STATUSES.items()]
    return grid(["status", "meaning"], rows) + "\n"


def _documents() -> Iterator[str]:
    yield JSON_INTRODUCTION.format(version=SCHEMA_VERSION) + "\n"
    for command, keys in DOCUMENTS.items():
        rows = [[f"`{key}`", meaning] for key, meaning in keys.items()]
        yield f"### {command}\n\n{grid(['key', 'meaning'], rows)}\n"


if __name__ == "__main__":
    main()
