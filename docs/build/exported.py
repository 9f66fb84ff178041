"""Table of exported forms in ``docs/how-to/export.md``: ``python -m docs.build.exported``."""

import csv
from pathlib import Path

from docs.build.markdown import grid
from docs.build.measurements import insert
from kd.common.files import write_text

SOURCE = Path("docs/evidence/exported-forms.csv")
DOCUMENT = Path("docs/how-to/export.md")
FORMS = ("mmdet", "onnx", "torchscript")


def main() -> None:
    """Insert the table between its markers."""
    write_text(DOCUMENT, page())


def page() -> str:
    """Return the document with the table of the measured differences."""
    rows: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    with open(SOURCE, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            rows.setdefault((row["detector"], row["student"]), {})[row["form"]] = row
    header = ["detector", "student", "AP of the run", *FORMS, "MB of ONNX"]
    lines = [
        [
            f"`{detector}`",
            f"`{student}`",
            forms["onnx"]["run_ap"],
            *(f"{float(forms[form]['difference']):+.3f}" for form in FORMS),
            forms["onnx"]["megabytes"],
        ]
        for (detector, student), forms in sorted(rows.items())
    ]
    text = DOCUMENT.read_text(encoding="utf-8")
    return insert(text, "exported-forms", grid(header, lines), DOCUMENT)


if __name__ == "__main__":
    main()
