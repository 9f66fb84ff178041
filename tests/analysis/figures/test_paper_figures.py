"""Figures of a paper: their files, and which figures of a study they are."""

from pathlib import Path
from typing import Any

import pytest

from analysis.figures.paper_figures import PaperPicture, file_name, paper_pictures
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"
CURVES = {"analysis": "training_curves"}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a tiny project without images."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def pictures(figures: dict[str, Any], **options: Any) -> dict[str, PaperPicture]:
    edit(STUDY, figures=figures)
    return paper_pictures(plan("tiny", "tiny", Library(), StudyOptions(**options)), "tiny", "tiny")


def test_only_figures_with_the_block_are_of_the_paper() -> None:
    paper = {"figure": "Figure S1", "differs": "The networks are smaller."}
    by_name = pictures({"curves": CURVES | {"paper": paper}, "other": CURVES})
    assert list(by_name) == ["figure-s1"]
    (picture,) = by_name.values()
    folder = "results/tiny/tiny"
    assert picture.outputs == [f"{folder}/paper/figure-s1.{kind}" for kind in ("png", "pdf", "md")]
    assert picture.inputs == [
        f"{folder}/figures/curves/{name}"
        for name in ("training_curves.png", "training_curves.pdf", "caption.md")
    ]
    assert picture.heading.startswith("# Figure S1\n")
    assert picture.heading.endswith("It differs from the paper's: The networks are smaller.")


def test_figures_that_share_a_figure_of_the_paper_have_their_key_in_the_name() -> None:
    tide = {"analysis": "tide", "paper": {"figure": "Figure 3", "picture": "tide-thresholds"}}
    by_name = pictures({"curves": CURVES | {"paper": {"figure": "Figure 3"}}, "errors": tide})
    assert list(by_name) == ["figure-3-curves", "figure-3-errors"]
    figure = by_name["figure-3-errors"].figure
    assert Path(figure.pictures[0]).stem == "tide-thresholds"
    assert figure.titled("Errors") == "Figure 3 of the paper: Errors"
    assert by_name["figure-3-errors"].picture == "tide-thresholds"


def test_figures_whose_rows_are_not_selected_are_left_out() -> None:
    figures = {"curves": CURVES | {"rows": ["rm"], "paper": {"figure": "Figure 3"}}}
    assert pictures(figures, methods=["rm+pfi"]) == {}


@pytest.mark.parametrize(
    ("paper", "message"),
    [
        ({"figure": "fig. 3"}, "must be the name of a paper's figure, such as 'Figure 3'"),
        ({"figure": "Figure 3", "picture": "tide"}, "paper.picture: no 'tide'"),
        ({"figur": "Figure 3"}, "unknown key 'figures.curves.paper.figur'; did you mean 'figure'"),
        ({}, "key 'figures.curves.paper.figure' is missing"),
    ],
)
def test_a_wrong_block_is_an_error_before_any_run(paper: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        pictures({"curves": CURVES | {"paper": paper}})
    assert str(error.value).startswith(STUDY)


def test_names_of_files() -> None:
    assert [file_name(f"Figure {name}") for name in ("3", "S4", "4b")] == [
        "figure-3",
        "figure-s4",
        "figure-4b",
    ]
