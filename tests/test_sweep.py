"""Rows of a table that sweep the settings of a method."""

from pathlib import Path
from typing import Any

import pytest

from kd.errors import UserError
from kd.settings.library import Library
from kd.settings.plan import Plan, plan
from tests.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned() -> Plan:
    return plan("tiny", "tiny", Library())


def test_a_sweep_makes_a_row_for_each_value() -> None:
    edit(STUDY, tables__pair__sweep={"rm": {"weight": [2, 8]}})
    rows = planned().rows[2:]
    assert [(row.method, row.setting) for row in rows] == [
        ("rm", "weight 2"),
        ("rm", "weight 8"),
        ("rm+pfi", "weight 2"),
        ("rm+pfi", "weight 8"),
    ]
    terms = [row.runs[0].config["model"]["methods"] for row in rows]
    assert [term["rm"]["weight"] for term in terms] == [2, 8, 2, 8]
    assert len({row.runs[0].name for row in rows}) == 4


def test_a_swept_value_that_is_the_default_is_the_same_run() -> None:
    (alone,) = (row for row in planned().rows if row.method == "rm")
    default = alone.runs[0].config["model"]["methods"]["rm"]["weight"]
    edit(STUDY, tables__pair__sweep={"rm": {"weight": [default, 1]}})
    swept = [row for row in planned().rows if row.method == "rm"]
    assert swept[0].runs == alone.runs
    assert swept[1].runs[0].name != alone.runs[0].name


def test_a_sweep_keeps_the_other_settings() -> None:
    settings = {"rm": {"localisation": False}}
    edit(STUDY, tables__pair__settings=settings, tables__pair__sweep={"rm": {"weight": [2]}})
    (row,) = (row for row in planned().rows if row.method == "rm")
    term = row.runs[0].config["model"]["methods"]["rm"]
    assert (term["weight"], term["localisation"]) == (2, False)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"rn": {"weight": [1]}}, "did you mean 'rm'"),
        ({"rm": {"wieght": [1]}}, "did you mean 'weight'"),
        ({"rm": {"weight": ["heavy"]}}, "weight"),
        ({"rm": {"weight": []}}, "at least 1"),
        ({"rm": {"weight": 2}}, "list"),
    ],
)
def test_a_sweep_that_could_not_run(sweep: dict[str, Any], message: str) -> None:
    edit(STUDY, tables__pair__sweep=sweep)
    with pytest.raises(UserError, match=message):
        planned()
