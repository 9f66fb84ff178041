"""Catalog of the analyses, generated from their classes, and page of the papers' figures."""

import pytest

from analysis import figures
from analysis.figures.columns import COLUMNS
from docs.build import paper_figures
from docs.build.figures import PAGE, page
from kd.config.library import Library
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


def test_the_page_of_the_papers_figures_is_current() -> None:
    text = (REPOSITORY / paper_figures.PAGE).read_text()
    assert paper_figures.page(Library()) == text, "run `python -m docs.build.paper_figures`"


def test_figures_of_one_analysis_differ_in_their_settings() -> None:
    page = (REPOSITORY / paper_figures.PAGE).read_text()
    for category in ("apple", "backpack", "chair", "refrigerator", "spoon", "skis"):
        assert page.count(f'`categories: ["{category}"]`') == 1


@pytest.mark.parametrize("name", Library().names("studies"))
def test_every_figure_of_a_paper_is_on_the_page(name: str) -> None:
    study = Library().study(name, "studies")
    figures = [figure.paper.figure for figure in study.figures.values() if figure.paper]
    _, heading, section = (REPOSITORY / paper_figures.PAGE).read_text().partition(f"(`{name}`)\n")
    assert bool(heading) == bool(figures or study.not_drawn)
    section = section.split("\n## ")[0]
    assert all(f"| {figure} |" in section for figure in [*figures, *study.not_drawn])


@pytest.mark.parametrize(
    ("study", "figures"),
    [("defeat", [f"S{number}" for number in range(1, 10)]), ("dicod", ["3"])],
)
def test_studies_draw_the_figures_that_their_papers_argue_with(
    study: str, figures: list[str]
) -> None:
    entries = Library().study(study, "studies").figures.values()
    figures_drawn = [figure.paper.figure for figure in entries if figure.paper]
    assert set(figures_drawn) >= {f"Figure {name}" for name in figures}
