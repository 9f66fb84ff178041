"""Compare exported forms of finished runs: ``python -m benchmarks.forms RUN... --to DIR``.

It answers: how far is the AP of each form from that of its run, and how large are its files? It
writes ``docs/evidence/exported-forms.csv``. Run it in a project with finished runs.
"""

import argparse
import csv
from pathlib import Path

import torch

import kd.runtime  # noqa: F401
from kd.common.files import read_json, replacing
from kd.config.library import Library
from kd.export.check import check
from kd.export.export import TrainedRun, export
from kd.export.forms import FORMS

COLUMNS = ("detector", "student", "dataset", "run_ap", "form", "ap", "difference", "megabytes")


def main() -> None:
    """Export the runs in all forms, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR")
    parser.add_argument("--table", type=Path, default="docs/evidence/exported-forms.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for run in options.runs for row in compare(run, options.to)]
    with (
        replacing(options.table) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows([COLUMNS, *rows])


def compare(directory: Path, folder: Path) -> list[list[str]]:
    """Export a run and return a row for each form; AP in points."""
    run, parts = TrainedRun.read(directory), read_json(directory / "run.json")
    written = export(run, FORMS, folder / directory.name)
    names = [parts[key] for key in ("detector", "student", "dataset")]
    rows = [
        [
            *names,
            f"{one.ap - one.difference:.2f}",
            one.form,
            f"{one.ap:.2f}",
            f"{one.difference:.3f}",
            f"{one.megabytes:.2f}",
        ]
        for one in check(run, written, Library())
    ]
    print("\n".join(map(" ".join, rows)), flush=True)
    return rows


if __name__ == "__main__":
    main()
