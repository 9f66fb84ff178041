"""Tables in documents come from files, not from hands."""

import re
from pathlib import Path

import pytest

from docs.build.measurements import MEASURED, SHOWN, insert, lowered
from kd import methods
from kd.common.errors import UserError
from tests.support.paths import REPOSITORY


def test_a_table_replaces_what_stands_between_its_markers() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb"
    assert (
        insert(text, "x", "new\n", Path("README.md"))
        == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb"
    )


def test_missing_markers_are_an_error() -> None:
    with pytest.raises(UserError, match=r"README.md: no markers '<!-- x: begin -->'"):
        insert("text", "x", "new", Path("README.md"))


def test_headings_are_lowered_to_stand_inside_another_document() -> None:
    assert lowered("# One\n\n## Two #2\n# Three") == "### One\n\n#### Two #2\n### Three"


PLACES = [
    (document, name)
    for shown in (SHOWN, MEASURED)
    for document, names in shown.items()
    for name in names
]
PAGES = [
    "README.md",
    *sorted(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("docs/**/*.md")),
]


@pytest.mark.parametrize(("document", "name"), PLACES)
def test_a_document_has_a_place_for_what_it_shows_and_shows_it(document: str, name: str) -> None:
    text = (REPOSITORY / document).read_text()
    shown = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    assert "|" in shown


@pytest.mark.parametrize("document", PAGES)
def test_the_figures_and_documents_it_links_exist(document: str) -> None:
    page = REPOSITORY / document
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).is_file(), link


def test_every_method_has_a_row_and_a_picture_where_methods_are_listed() -> None:
    text = (REPOSITORY / "docs" / "methods" / "README.md").read_text()
    for name in methods.names():
        assert f"| `{name}`" in text
        assert f"]({name}.png)" in text
