"""Scales that are made from others."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.errors import UserError
from kd.settings.library import Library
from kd.settings.plan import plan
from tests.conftest import CONFIGS
from tests.tiny import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def write(name: str, **values: Any) -> None:
    Path(f"configs/scales/{name}.yaml").write_text(yaml.safe_dump({"title": name, **values}))


def test_a_scale_has_the_entries_of_its_base_but_for_its_own():
    tiny = Library().scale("tiny", "test")
    write("longer", base="tiny", schedules={"1x": "smoke"})
    longer = Library().scale("longer", "test")
    assert longer.title == "longer" and longer.base == "tiny"
    assert longer.schedules == tiny.schedules | {"1x": "smoke"}
    assert longer.detectors == tiny.detectors and longer.backbones == tiny.backbones
    assert longer.jobs == tiny.jobs


def test_what_is_the_same_in_both_is_composed_to_the_same_model():
    write("alike", base="tiny")
    one, other = (plan("tiny", scale, Library()) for scale in ("tiny", "alike"))
    models = [[run.config["model"] for run in made.runs.values()] for made in (one, other)]
    assert [*map(without_paths, models[0])] == [*map(without_paths, models[1])]


def without_paths(model: dict[str, Any]) -> dict[str, Any]:
    """A teacher's weights lie in the folder of its scale."""
    return {key: value for key, value in model.items() if "checkpoint" not in key}


def test_mini_has_the_networks_of_smoke():
    smoke, mini = (Library(CONFIGS).scale(name, "test") for name in ("smoke", "mini"))
    assert (mini.detectors, mini.backbones) == (smoke.detectors, smoke.backbones)
    assert set(mini.datasets.values()) == {"shapes-mini"}
    assert not {"smoke"} & set(mini.schedules.values())


@pytest.mark.parametrize("base", ["round", "other"])
def test_a_scale_made_from_itself_is_refused(base: str):
    write("round", base=base)
    write("other", base="round")
    with pytest.raises(UserError, match=r"scales/\w+.yaml: key 'base': 'round' is itself made"):
        Library().scale("round", "test")


def test_an_unknown_base_is_refused_by_name():
    write("longer", base="tinny")
    with pytest.raises(UserError, match=r"longer.yaml: key 'base': no 'tinny'.*'tiny'"):
        Library().scale("longer", "test")
