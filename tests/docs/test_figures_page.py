"""Catalog of the analyses, generated from their classes, and the columns of their CSV files."""

import pytest

from analysis import figures
from analysis.figures.columns import COLUMNS
from docs.build.figures import PAGE, page
from tests.support.paths import REPOSITORY


def test_the_page_is_current() -> None:
    text = (REPOSITORY / PAGE).read_text()
    assert page() == text, "run `python -m docs.build.figures`"


@pytest.mark.parametrize("name", figures.names())
def test_an_analysis_has_its_question_settings_and_files(name: str) -> None:
    section = page().split(f"\n## {name}\n")[1].split("\n## ")[0]
    kind = figures.get(name)
    assert kind.question in section
    assert all(f"| `{key}` |" in section for key in kind.model_fields)
    assert all(f"`{stem}`" in section for stem in kind.pictures)
    assert all(f"`{stem}.csv`" in section for stem in kind.tables)


def test_columns_are_described_for_every_csv_file_and_no_other() -> None:
    tables = [table for name in figures.names() for table in figures.get(name).tables]
    assert sorted(COLUMNS) == sorted(tables)
