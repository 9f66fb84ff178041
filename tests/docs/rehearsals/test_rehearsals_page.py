"""Page of rehearsals at paper scale."""

from pathlib import Path

import pytest

from docs.build.rehearsals.page import DATA, PAGE, collect, page, read_rows, studies_by_key
from kd.config.library import Library
from tests.support.paths import CONFIGS, REPOSITORY


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(CONFIGS)


def test_the_page_is_current(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert Path(PAGE).read_text() == page(library, read_rows()), "python -m docs.build.rehearsals"


def test_rows_are_of_planned_trainings_and_none_failed(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    rows = read_rows()
    assert {row["key"] for row in rows} <= studies_by_key(library).keys()
    assert {row["result"] for row in rows} == {"passed"}


def test_collecting_without_results_changes_no_row(
    library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [*csv_rows()]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    assert collect(library, rows) == rows


def csv_rows() -> list[dict[str, str]]:
    import csv

    with open(REPOSITORY / DATA, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
