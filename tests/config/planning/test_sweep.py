"""Rows of a table that sweep the settings of a method."""

from pathlib import Path
from typing import Any

import pytest

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import Plan, plan
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of the configuration, without data."""
    monkeypatch.chdir(make_project(tmp_path, data=False))


def planned() -> Plan:
    return plan("tiny", "tiny", Library())


def test_a_sweep_has_a_row_for_each_value() -> None:
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


def test_a_sweep_leaves_other_settings_unchanged() -> None:
    settings = {"rm": {"localisation": False}}
    edit(STUDY, tables__pair__settings=settings, tables__pair__sweep={"rm": {"weight": [2]}})
    (row,) = (row for row in planned().rows if row.method == "rm")
    term = row.runs[0].config["model"]["methods"]["rm"]
    assert (term["weight"], term["localisation"]) == (2, False)


def test_a_joint_sweep_has_a_row_for_each_entry() -> None:
    joint = [{"weight": 2, "localisation": False}, {"weight": 8}]
    edit(STUDY, tables__pair__methods=["rm"], tables__pair__sweep={"rm": joint})
    rows = planned().rows[2:]
    assert [row.setting for row in rows] == ["weight 2, localisation False", "weight 8"]
    terms = [row.runs[0].config["model"]["methods"]["rm"] for row in rows]
    assert [(term["weight"], term["localisation"]) for term in terms] == [(2, False), (8, True)]


def test_a_swept_row_has_the_published_numbers_of_its_setting() -> None:
    header = "table,dataset,schedule,detector,teacher,student,method,setting,AP,AP50,AP75,APS,APM,"
    header += "APL,VOC07,source,framework,differs,note\n"
    common = "T,coco2017,1x,retinanet,"
    lines = [
        f"{common},r18,baseline,,31.9,,,,,,,s,f,,\n",
        f"{common}r50,r18,rm,weight 2,33.3,,,,,,,s,f,longer,\n",
        f"{common}r50,r18,rm,,30.0,,,,,,,s,f,,\n",
    ]
    Path("configs/published/tiny.csv").write_text(header + "".join(lines))
    edit(STUDY, published="tiny.csv", tables__pair__published="T")
    edit(STUDY, tables__pair__methods=["rm"], tables__pair__sweep={"rm": {"weight": [2, 8]}})
    two, eight = planned().rows[2:]
    assert (two.published, two.differs) == ({"AP": 33.3}, "longer")
    assert eight.published == {}
    assert two.published_baseline == eight.published_baseline == {"AP": 31.9}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"rn": {"weight": [1]}}, "did you mean 'rm'"),
        ({"rm": {"wieght": [1]}}, "did you mean 'weight'"),
        ({"rm": {"weight": ["heavy"]}}, "weight"),
        ({"rm": {"weight": []}}, "at least 1"),
        ({"rm": {"weight": 2}}, "list"),
        ({"rm": []}, "at least 1"),
        ({"rm": [{}]}, "at least 1"),
        ({"rm": [{"wieght": 1}]}, "did you mean 'weight'"),
        ({"rm": [2]}, r"key 'tables.pair.sweep.rm.0': must be a block of keys"),
    ],
)
def test_an_invalid_sweep_is_refused(sweep: dict[str, Any], message: str) -> None:
    edit(STUDY, tables__pair__sweep=sweep)
    with pytest.raises(UserError, match=message):
        planned()
