"""Table of the rehearsals of a study: speed, memory and failures."""

from collections.abc import Iterable
from pathlib import Path

from tabulate import tabulate

from kd.common.durations import duration
from kd.common.files import write_text
from kd.common.lists import enumerate_names
from kd.config.run import study_folder
from kd.rehearsal.trainings import RehearsedTraining, title_of
from kd.resources.rehearsals import Rehearsal, folder_of

FILE = "rehearsals.md"
LOG = "rehearsal.log"
"""Output of a rehearsal that `snakemake rehearse` made."""
COLUMNS = ("training", "runs", "batch", "s/step", "images/s", "first step", "memory, GB",
           "checkpoint, MB", "gradient ratios", "result")  # fmt: skip
PRINTED_COLUMNS = ("training", "batch", "s/step", "GB", "result")
"""Columns that fit the width of a terminal."""


def write_table(study: str, scale: str, trainings: Iterable[RehearsedTraining]) -> tuple[Path, str]:
    """Write the table of a study's rehearsals; return its path and a text for the terminal."""
    path, rows = study_folder(study, scale) / FILE, list(trainings)
    text = to_markdown(rows)
    write_text(path, f"# Rehearsals of study {study}, scale {scale}\n\n{text}\n")
    return path, to_text(rows)


def to_markdown(trainings: list[RehearsedTraining]) -> str:
    """Return a row for each distinct training, and the conditions of the rehearsals."""
    records = {one.key: one.record for one in trainings}
    table = tabulate(
        [_row(one, records[one.key]) for one in trainings],
        COLUMNS,
        tablefmt="github",
        disable_numparse=True,
    )
    return "\n\n".join([table, *_summary(trainings, records)])


def to_text(trainings: list[RehearsedTraining]) -> str:
    """Return the table in few columns, then the reasons of failures, warnings, and conditions."""
    records = {one.key: one.record for one in trainings}
    rows = [_printed_row(one, records[one.key]) for one in trainings]
    table = tabulate(rows, PRINTED_COLUMNS, tablefmt="plain", disable_numparse=True)
    lists = (_failures(trainings), _warnings(trainings, records))
    blocks = [table, *("\n".join(lines) for lines in lists if lines)]
    return "\n\n".join([*blocks, *_summary(trainings, records)])


def _summary(trainings: list[RehearsedTraining], records: dict[str, Rehearsal | None]) -> list[str]:
    """Return the numbers of passed, failed and missing rehearsals, and their conditions."""
    passed = [record for record in records.values() if record]
    failed = sum(bool(one.failure) for one in trainings)
    missing = len(trainings) - len(passed) - failed
    counts = f"{len(passed)} of {len(trainings)} rehearsals passed, {failed} failed"
    if missing:
        counts += f", {missing} were not made"
    return [f"{counts}.", *_conditions(passed)]


def _printed_row(training: RehearsedTraining, record: Rehearsal | None) -> list[str]:
    title = title_of(training.first.identity)
    if record is None:
        return [title, "", "", "", "failed" if training.failure else "not made"]
    count = len(record.warnings)
    warnings = f", {count} warning{'s' * (count > 1)}" if count else ""
    speed = f"{record.seconds_per_step:.3g}"
    return [title, _batch(record), speed, _memory(record), f"passed{warnings}"]


def _failures(trainings: list[RehearsedTraining]) -> list[str]:
    """Return a line for each failed rehearsal with its reason and its log."""
    lines = []
    for training in trainings:
        if training.failure:
            log = folder_of(training.key) / LOG
            where = f"; log: {log}" if log.exists() else ""
            lines.append(f"  {title_of(training.first.identity)}: {training.failure}{where}")
    return ["Failed:", *lines] if lines else []


def _warnings(
    trainings: list[RehearsedTraining], records: dict[str, Rehearsal | None]
) -> list[str]:
    """Return a line for each warning with the first training that has it."""
    titles: dict[str, list[str]] = {}
    for training in trainings:
        record = records[training.key]
        for warning in record.warnings if record else ():
            titles.setdefault(warning, []).append(title_of(training.first.identity))
    lines = [
        f"  {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {warning}"
        for warning, names in titles.items()
    ]
    return ["Warnings:", *lines] if lines else []


def describe(record: Rehearsal) -> str:
    """Return a line with the speed and the memory of a rehearsal."""
    return (
        f"{record.run}: {record.seconds_per_step:.3g} s a step of {record.batch} images, first "
        f"step after {duration(record.first_step)}, {_memory(record)} GB, checkpoint of "
        f"{record.checkpoint_mb:.0f} MB{_cut(record)}"
    )


def _row(training: RehearsedTraining, record: Rehearsal | None) -> list[str]:
    start = [title_of(training.first.identity), str(len(training.runs))]
    if record is None:
        result = f"failed: {training.failure}" if training.failure else "not made"
        return [*start, *[""] * (len(COLUMNS) - 3), result]
    ratios = ", ".join(f"{name} {value:.2g}" for name, value in record.gradient_ratios.items())
    return [
        *start,
        _batch(record),
        f"{record.seconds_per_step:.3g}",
        f"{record.images_per_second:.3g}",
        duration(record.first_step),
        _memory(record),
        f"{record.checkpoint_mb:.0f}",
        ratios,
        "; ".join(["passed", *record.warnings]),
    ]


def _batch(record: Rehearsal) -> str:
    """Return the images of a step, in how many parts it was computed, and what it was cut from."""
    parts = f" in {record.accumulate} parts" if record.accumulate > 1 else ""
    return f"{record.batch}{parts}" + (f" of {record.planned_batch}" if record.is_cut else "")


def _memory(record: Rehearsal) -> str:
    """Return the peaks of the process's memory and of the GPU's, in GB."""
    process = f"{record.process_mb / 1024:.1f}"
    return process if record.gpu_mb is None else f"{process} + {record.gpu_mb / 1024:.1f} on GPU"


def _cut(record: Rehearsal) -> str:
    return f"; the batch of {record.planned_batch} was cut" if record.is_cut else ""


def _conditions(records: list[Rehearsal]) -> list[str]:
    """Return sentences on devices, cut batches, stand-ins and random weights."""
    if not records:
        return []
    devices = enumerate_names(sorted({record.device for record in records}))
    lines = [
        f"Measured on {devices}. A training represents all runs that differ from it in seed, "
        "teacher weights, length or real-valued settings alone. Gradient ratios are the norm of a "
        "term's gradient at the neck over that of detection, in the first step."
    ]
    cut = sum(record.is_cut for record in records)
    if cut:
        lines.append(f"{cut} rehearsals cut the batch, so their memory is less than a run needs.")
    stand_ins = sorted({record.data for record in records if "stand-in" in record.data})
    if stand_ins:
        lines.append(f"Data that are not on this machine: {enumerate_names(stand_ins)}.")
    random = sorted({name for record in records for name in record.random_weights})
    if random:
        lines.append(
            f"Weights were random ({enumerate_names(random)}), so losses and ratios are not those "
            "of a run."
        )
    return lines
