"""Scales that inherit from others, and parts without a stand-in."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd.cli.main import main
from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.plan import plan
from tests.support.paths import CONFIGS
from tests.support.tiny import edit, make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def write(name: str, **values: Any) -> None:
    Path(f"configs/scales/{name}.yaml").write_text(yaml.safe_dump({"title": name, **values}))


def test_a_scale_inherits_the_entries_that_it_does_not_set():
    tiny = Library().scale("tiny", "test")
    write("longer", base="tiny", schedules={"1x": "smoke"})
    longer = Library().scale("longer", "test")
    assert longer.title == "longer" and longer.base == "tiny"
    assert longer.schedules == tiny.schedules | {"1x": "smoke"}
    assert longer.detectors == tiny.detectors and longer.backbones == tiny.backbones
    assert longer.jobs == tiny.jobs


def test_equal_scales_compose_equal_models():
    write("alike", base="tiny")
    one, other = (plan("tiny", scale, Library()) for scale in ("tiny", "alike"))
    models = [[run.config["model"] for run in planned.runs.values()] for planned in (one, other)]
    assert [*map(without_paths, models[0])] == [*map(without_paths, models[1])]


def without_paths(model: dict[str, Any]) -> dict[str, Any]:
    """Return a model without the paths of its teachers, which contain the scale."""
    return {key: value for key, value in model.items() if "checkpoint" not in key}


def test_mini_has_the_networks_of_smoke():
    smoke, mini = (Library(CONFIGS).scale(name, "test") for name in ("smoke", "mini"))
    assert (mini.detectors, mini.backbones) == (smoke.detectors, smoke.backbones)
    assert set(mini.datasets.values()) == {"shapes-mini", "bccd", "bccd-val"}
    assert not {"smoke"} & set(mini.schedules.values())


@pytest.mark.parametrize("base", ["round", "other"])
def test_a_scale_that_inherits_from_itself_is_refused(base: str):
    write("round", base=base)
    write("other", base="round")
    with pytest.raises(
        UserError, match=r"scales/\w+.yaml: key 'base': 'round' already inherits from '\w+'"
    ):
        Library().scale("round", "test")


def test_an_unknown_base_is_refused_by_name():
    write("longer", base="tinny")
    with pytest.raises(UserError, match=r"longer.yaml: key 'base': no 'tinny'.*'tiny'"):
        Library().scale("longer", "test")


# --- Parts that a scale has no stand-in for --------------------------------------------------


def study(**changes: Any) -> None:
    edit("configs/studies/tiny.yaml", **{f"tables__pair__{key}": v for key, v in changes.items()})


@pytest.mark.parametrize(
    ("changes", "scale", "words"),
    [
        (
            {"schedule": "mini-bf16"},
            "smoke",
            ["no stand-in for schedule 'mini-bf16'", "configs/scales/smoke.yaml",
             "'mini-bf16: smoke-bf16' (the stand-in of '1x-bf16')", "'mini-bf16: mini-bf16'"],
        ),
        (
            {"pairs": [{"teacher": "r50", "student": "mbv2-w0.75"}]},
            "smoke",
            ["no stand-in for backbone 'mbv2-w0.75'", "(the stand-in of 'mbv2-w0.5')"],
        ),
        (
            {"pairs": [{"teacher": "r50-w2", "student": "r18"}]},
            "mini",
            ["no stand-in for backbone 'r50-w2'", "configs/scales/mini.yaml"],
        ),
        (
            {"pairs": [{"teacher": "r50", "student": "r18", "teacher_schedule": "classifier"}]},
            "smoke",
            ["no stand-in for schedule 'classifier'"],
        ),
        (
            {"dataset": "mine"},
            "smoke",
            ["no stand-in for data set 'mine'", "'laptop'", "'mine: mine'"],
        ),
        (
            {"methods": ["dicod"], "classifiers": {"general": "r99"}},
            "smoke",
            ["no stand-in for classifier 'r99'", "'r99: smoke' (the stand-in of 'r"],
        ),
        ({"detectors": ["fcos"]}, "tiny", ["no settings for detector 'fcos'", "'fcos: {}'"]),
        (
            {"detectors": ["retinanet"], "pairs": [
                {"teacher": "r50", "student": "r18", "teacher_detector": "fcos"}]},
            "tiny",
            ["no settings for detector 'fcos'"],
        ),
        ({"detectors": ["ssd400"]}, "laptop", ["no settings for detector 'ssd400'"]),
    ],
)  # fmt: skip
def test_a_part_without_a_stand_in_is_refused_with_the_nearest(
    changes: dict[str, Any], scale: str, words: list[str]
):
    for folder, name, copy in (
        ("datasets", "voc0712", "mine"), ("classifiers", "r18", "r99"),
        ("detectors", "ssd300", "ssd400"),
    ):  # fmt: skip
        content = Path(f"configs/{folder}/{name}.yaml").read_text(encoding="utf-8")
        Path(f"configs/{folder}/{copy}.yaml").write_text(content, encoding="utf-8")
    edit("configs/scales/tiny.yaml", detectors__fcos=None)
    study(**changes)
    with pytest.raises(UserError) as refused:
        plan("tiny", scale, Library())
    for text in ("configs/studies/tiny.yaml: table 'pair'", *words):
        assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_input_size_without_a_stand_in_is_refused():
    sizes = yaml.safe_load(Path("configs/scales/smoke.yaml").read_text())["input_sizes"]
    del sizes["yolov3"]
    edit("configs/scales/smoke.yaml", input_sizes=sizes)
    study(detectors=["yolov3"], methods=["fitnets"])
    with pytest.raises(
        UserError, match=r"no input size for detector 'yolov3'.* 416 pixels.*as of 'yolox'"
    ):
        plan("tiny", "smoke", Library())


@pytest.mark.parametrize(("part", "stand_in"), [("1x-bf16", "smoke-bf16"), ("1x", "smoke")])
def test_a_part_is_mapped_by_name(part: str, stand_in: str):
    study(schedule=part)
    assert {run.schedule for run in plan("tiny", "smoke", Library()).runs.values()} == {stand_in}


def test_every_shipped_part_has_a_stand_in_at_smoke_and_mini():
    library = Library(CONFIGS)
    left_out = {
        "schedules": {"classifier", "classifier-smoke", "mini", "mini-3x", "mini-bf16",
                      "mini-rtmdet", "mini-yolox", "smoke", "smoke-bf16", "smoke-rtmdet",
                      "smoke-yolox"},
        "datasets": {"example", "shapes-mini", "shapes-smoke"},
        "backbones": set(), "detectors": set(), "classifiers": {"smoke", "smoke-ssd"},
    }  # fmt: skip
    for scale in ("smoke", "mini"):
        whole = library.scale(scale, "test")
        for kind, names in left_out.items():
            assert set(library.names(kind)) - names <= getattr(whole, kind).keys(), (scale, kind)


def test_a_stand_in_and_a_part_of_a_scale_that_maps_none_are_themselves():
    study(schedule="tiny", dataset="shapes-tiny")
    assert {run.schedule for run in plan("tiny", "tiny", Library()).runs.values()} == {"tiny"}
    study(schedule="mini", dataset="voc0712")
    assert {run.schedule for run in plan("tiny", "laptop", Library()).runs.values()} == {"mini"}


def test_a_classifier_composed_by_hand_has_the_stand_ins_of_its_scale(
    capsys: pytest.CaptureFixture[str],
):
    assert main(["classifier", "r50", "coco2017", "--scale", "smoke"]) == 0
    assert capsys.readouterr().out.startswith("results/classifiers/smoke/shapes-smoke/")
    assert main(["classifier", "smoke", "coco2017", "--scale", "smoke"]) == 0
    Path("configs/classifiers/r99.yaml").write_text(
        Path("configs/classifiers/r18.yaml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    assert main(["classifier", "r99", "coco2017", "--scale", "smoke"]) == 2
    assert "no stand-in for classifier 'r99'" in capsys.readouterr().err
