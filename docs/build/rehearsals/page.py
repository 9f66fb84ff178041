"""Text of ``docs/reference/rehearsals.md``, and the data that it is written from."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from docs.build.markdown import grid
from kd.common.files import write_text
from kd.common.lists import enumerate_names
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import AnyRun
from kd.rehearsal.trainings import RehearsedTraining, distinct_trainings, title_of

PAGE = Path("docs/reference/rehearsals.md")
DATA = Path("docs/evidence/rehearsals.csv")
SCALE = "paper"
COLUMNS = (
    *("key", "training", "result", "device", "gpus", "threads", "batch", "planned_batch"),
    *("seconds_per_step", "first_step", "process_mb", "gpu_mb", "checkpoint_mb"),
    *("gradient_ratios", "warnings", "commit"),
)
Row = dict[str, str]

INTRODUCTION = """# Rehearsals at paper scale

This page lists the distinct trainings of all studies at scale `paper`, and the rehearsals of them
that this project made: a few steps at the real configuration and image size, stopped, resumed,
predicted and evaluated ([rehearse a study](../how-to/rehearse.md)). Data were stand-ins and weights
were random, so a rehearsal shows that a training runs, with how much memory and how fast, and
nothing about AP. `python -m docs.build.rehearsals` writes the page."""


def studies_by_key(library: Library) -> dict[str, tuple[RehearsedTraining, list[str]]]:
    """Return each distinct training of all studies at paper scale, and the studies that have it."""
    trainings: dict[str, tuple[RehearsedTraining, list[str]]] = {}
    for study in library.names("studies"):
        planned = plan(study, SCALE, library)
        runs: list[AnyRun] = [*planned.classifiers.values(), *planned.runs.values()]
        for key, training in distinct_trainings(runs).items():
            trainings.setdefault(key, (training, []))[1].append(study)
    return trainings


def collect(library: Library, rows: Iterable[Row]) -> list[Row]:
    """Return the rows of planned trainings; records of ``results`` replace old rows."""
    old = {row["key"]: row for row in rows}
    current = ((key, training) for key, (training, _) in studies_by_key(library).items())
    collected = [_row(training) or old.get(key) for key, training in current]
    return [row for row in collected if row]


def page(library: Library, rows: list[Row]) -> str:
    """Return the page from the committed rows."""
    by_key = {row["key"]: row for row in rows}
    planned = studies_by_key(library)
    parts = [INTRODUCTION, _summary(planned, by_key), _conditions(rows), "## Trainings"]
    parts.append(
        "The time is that of one step, and the memory is the peak of the training process. "
        "Gradient ratios are those of a term at the neck over detection in the first step, with "
        "random weights."
    )
    header = ["training", "studies", "batch", "s/step", "memory, GB", "checkpoint, MB"]
    header += ["gradient ratios", "result"]
    parts.append(grid(header, [_cells(training, studies, by_key.get(key))
                               for key, (training, studies) in planned.items()]))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _row(training: RehearsedTraining) -> Row | None:
    """Return the row of a training's rehearsal; None if it was not made."""
    record, title = training.record, title_of(training.first.identity)
    if record is None:
        if not training.failure:
            return None
        return dict.fromkeys(COLUMNS, "") | {
            "key": training.key, "training": title, "result": f"failed: {training.failure}",
        }  # fmt: skip
    values = {
        "key": training.key,
        "training": title,
        "result": "passed",
        "gradient_ratios": "; ".join(
            f"{name} {value:.3g}" for name, value in record.gradient_ratios.items()
        ),
        "warnings": "; ".join(record.warnings),
        "commit": str(record.environment["commit"]).partition("+")[0][:12],
        "gpu_mb": "" if record.gpu_mb is None else str(record.gpu_mb),
    }
    return {column: values.get(column, str(getattr(record, column, ""))) for column in COLUMNS}


def _cells(training: RehearsedTraining, studies: list[str], row: Row | None) -> list[str]:
    start = [title_of(training.first.identity), ", ".join(studies)]
    if row is None or row["result"] != "passed":
        return [*start, *[""] * 5, row["result"] if row else "not made"]
    cut = row["batch"] != row["planned_batch"]
    gpu = f" + {int(row['gpu_mb']) / 1024:.1f} on GPU" if row["gpu_mb"] else ""
    return [
        *start,
        row["batch"] + (f" of {row['planned_batch']}" if cut else ""),
        f"{float(row['seconds_per_step']):.3g}",
        f"{int(row['process_mb']) / 1024:.1f}{gpu}",
        f"{float(row['checkpoint_mb']):.0f}",
        row["gradient_ratios"],
        "; ".join(filter(None, ["passed", row["warnings"]])),
    ]


def _summary(
    planned: dict[str, tuple[RehearsedTraining, list[str]]], by_key: dict[str, Row]
) -> str:
    """Return the number of trainings of each study, and of those that passed."""
    names = sorted({study for _, studies in planned.values() for study in studies})
    lines = [_counts(name, planned, by_key) for name in names]
    results = [by_key[key]["result"] for key in planned if key in by_key]
    passed = results.count("passed")
    lines.append(["**all studies**", *map(str, (len(planned), passed, len(results) - passed))])
    lines[-1].append(str(len(planned) - len(results)))
    header = ["study", "distinct trainings", "passed", "failed", "not made"]
    return f"## Studies\n\n{grid(header, lines)}"


def _counts(
    study: str, planned: dict[str, tuple[RehearsedTraining, list[str]]], by_key: dict[str, Row]
) -> list[str]:
    keys = [key for key, (_, studies) in planned.items() if study in studies]
    results = [by_key[key]["result"] for key in keys if key in by_key]
    passed = results.count("passed")
    counts = (len(keys), passed, len(results) - passed, len(keys) - len(results))
    return [f"`{study}`", *map(str, counts)]


def _conditions(rows: list[Row]) -> str:
    """Return devices, batches, and the range of times and memory of the rehearsals."""
    passed = [row for row in rows if row["result"] == "passed"]
    if not passed:
        return "No rehearsal was made."
    devices = enumerate_names(sorted({row["device"] for row in passed}))
    batches = enumerate_names(sorted({int(row["batch"]) for row in passed}))
    seconds = [float(row["seconds_per_step"]) for row in passed]
    memory = [int(row["process_mb"]) / 1024 for row in passed]
    return (
        f"Device: {devices}. Images of a step: {batches}. A step took {median(seconds):.0f} s "
        f"(median; {min(seconds):.0f} to {max(seconds):.0f} s), beside other work on the machine, "
        f"so the times compare no methods. A process took {median(memory):.1f} GB (median; at most "
        f"{max(memory):.1f} GB)."
    )


def read_rows() -> list[Row]:
    """Return the committed rows."""
    if not DATA.exists():
        return []
    return list(csv.DictReader(io.StringIO(DATA.read_text(encoding="utf-8"))))


def write_rows(rows: list[Row]) -> None:
    """Write the rows to ``DATA``."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(DATA, stream.getvalue())
