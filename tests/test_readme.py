"""The README's tables come from files, not from hands."""

import re
from pathlib import Path

import pytest

from analysis.readme import FIGURES, SHOWN, insert, lowered
from kd.errors import UserError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_a_table_replaces_what_stands_between_its_markers() -> None:
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb"
    assert insert(text, "x", "new\n") == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb"


def test_missing_markers_are_an_error() -> None:
    with pytest.raises(UserError, match=r"README.md: no markers '<!-- x: begin -->'"):
        insert("text", "x", "new")


def test_headings_are_lowered_to_stand_inside_another_document() -> None:
    assert lowered("# One\n\n## Two #2\n# Three") == "### One\n\n#### Two #2\n### Three"


@pytest.mark.parametrize("study", SHOWN)
def test_the_readme_has_a_place_for_each_study(study: str) -> None:
    assert f"<!-- {study}: begin -->" in README
    assert f"<!-- {study}: end -->" in README


def test_the_figures_and_documents_it_links_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link
    assert all((ROOT / link).parent == ROOT / FIGURES for link in links if link.endswith(".png"))
