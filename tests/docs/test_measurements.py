"""Tables in documents are inserted from files."""

from pathlib import Path

import pytest

from docs.build.measurements import MEASUREMENTS, STUDIES, insert, with_lower_headings
from kd.common.errors import UserError
from tests.support.paths import REPOSITORY


def test_a_table_replaces_the_text_between_its_markers() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb"
    assert (
        insert(text, "x", "new\n", Path("README.md"))
        == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb"
    )


def test_missing_markers_are_an_error() -> None:
    with pytest.raises(UserError, match=r"README.md: no markers '<!-- x: begin -->'"):
        insert("text", "x", "new", Path("README.md"))


def test_headings_of_an_inserted_document_are_two_levels_lower() -> None:
    assert with_lower_headings("# One\n\n## Two #2\n# Three") == "### One\n\n#### Two #2\n### Three"


PLACES = [
    (document, name)
    for content in (STUDIES, MEASUREMENTS)
    for document, names in content.items()
    for name in names
]


@pytest.mark.parametrize(("document", "name"), PLACES)
def test_a_document_has_a_table_between_its_markers(document: str, name: str) -> None:
    text = (REPOSITORY / document).read_text()
    content = text.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    assert "|" in content
