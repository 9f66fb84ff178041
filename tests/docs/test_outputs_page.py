"""The columns of ``table.csv`` in docs/reference/outputs.md are those that are written."""

import re

from analysis.tables.csv_file import to_csv
from analysis.tables.rows import MEASURES
from tests.support.paths import REPOSITORY

PAGE = REPOSITORY / "docs/reference/outputs.md"


def test_every_column_of_the_csv_file_is_described_once() -> None:
    section = (
        PAGE.read_text(encoding="utf-8")
        .partition("## Columns of table.csv")[2]
        .partition("\n## ")[0]
    )
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    described = [name for cell in cells for name in re.findall("`(.+?)`", cell)]
    # Measures that no run has are not in the file.
    columns = [*to_csv([]).strip().split(","), *MEASURES]
    assert sorted(described) == sorted(columns)
    assert len(described) == len({*described})
