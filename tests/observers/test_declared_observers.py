"""The observer that a detector's file declares is checked when it is read, built and observed."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from analysis.figures import requirements
from kd.common.errors import UserError
from kd.config.applicability import matrix
from kd.config.canonical import canonical_detector
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.models.build import build_model
from kd.observers.declared import check_declared
from kd.observers.heads import OBSERVABLE, REQUIRED
from tests.support.paths import CONFIGS
from tests.support.tiny import make_project
from tests.support.tiny_detectors import BACKBONE, CLASSES, tiny_settings

UNLISTED = {"type": "UnlistedRetinaHead"}


@pytest.fixture(autouse=True)
def unlisted_head(quiet_mmdet: None) -> Any:
    """Register a RetinaHead under a name that no table lists."""
    from mmdet.models.dense_heads import RetinaHead
    from mmdet.registry import MODELS

    name = UNLISTED["type"]
    MODELS.register_module(name, module=type(name, (RetinaHead,), {}))
    yield
    MODELS.module_dict.pop(name)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path, data=False))
    return tmp_path


def write(name: str, base: str, head: dict[str, Any], observer: str | None) -> Library:
    """Write a detector that is another one with some settings of its head."""
    part = yaml.safe_load((CONFIGS / "detectors" / f"{base}.yaml").read_text(encoding="utf-8"))
    part["model"]["bbox_head"] |= head
    part |= {"title": name} | ({"observer": observer} if observer else {})
    Path(f"configs/detectors/{name}.yaml").write_text(yaml.safe_dump(part), encoding="utf-8")
    return Library()


def model(library: Library, name: str, base: str) -> dict[str, Any]:
    scale = Scale(title="tiny", detectors={name: tiny_settings(base)})
    return detector_model(name, BACKBONE, CLASSES, "scratch", scale, library, "tests")


def built(library: Library, name: str, base: str) -> Any:
    torch.manual_seed(0)
    detector = build_model(model(library, name, base))
    detector.init_weights()
    return detector


def test_a_declared_observer_offers_what_the_observer_of_a_listed_head_does(project: Path) -> None:
    library = write("plain", "retinanet", UNLISTED, None)
    assert matrix(library)["rm"]["plain"]
    library = write("declared", "retinanet", UNLISTED, "anchor")
    no_towers = "reads towers, which detector 'declared' does not offer"
    for row in matrix(library).values():
        assert row["declared"] == no_towers or bool(row["declared"]) == bool(row["retinanet"])
    declared, retinanet = (library.detector(name, "test") for name in ("declared", "retinanet"))
    assert declared.offered == retinanet.offered - {"towers"}


def test_an_analysis_reads_predictions_of_a_declared_head(project: Path) -> None:
    library = write("declared", "retinanet", UNLISTED, "anchor")
    Path("run.json").write_text('{"detector": "declared"}', encoding="utf-8")
    requirements.check(frozenset({"rankings"}), [], Path(), library)
    with pytest.raises(UserError, match=r"'declared' does not offer towers.*retinanet"):
        requirements.check(frozenset({"towers"}), [], Path(), library)


def test_a_detector_is_built_with_its_declared_observer(project: Path) -> None:
    detector = built(write("declared", "retinanet", UNLISTED, "anchor"), "declared", "retinanet")
    assert (detector.observer, detector.declared) == ("anchor", True)
    state, before = torch.get_rng_state(), {k: v.clone() for k, v in detector.state_dict().items()}
    check_declared(detector)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_listed_heads_declare_nothing(build: Any) -> None:
    assert not build("retinanet").declared


@pytest.mark.parametrize("observer", ["gfl", "point", "two_stage"])
def test_a_head_of_another_class_is_not_built(project: Path, observer: str) -> None:
    library = write("wrong", "retinanet", UNLISTED, observer)
    with pytest.raises(UserError) as error:
        built(library, "wrong", "retinanet")
    text = str(error.value)
    assert (
        f"'observer: {observer}', but UnlistedRetinaHead is no {REQUIRED[observer].dense}" in text
    )
    assert "\n" not in text


def test_a_head_that_computes_another_loss_is_refused_before_training(project: Path) -> None:
    """LDHead is a GFLHead, but its loss reads a teacher's outputs, too."""
    head = {"type": "LDHead", "loss_ld": {"type": "KnowledgeDistillationKLDivLoss", "T": 10}}
    detector = built(write("ld", "gfl", head, "gfl"), "ld", "gfl")
    with pytest.raises(
        UserError, match="declares 'observer: gfl' for LDHead, but reading"
    ) as error:
        check_declared(detector)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("base", "observer", "problem"),
    [
        ("fcos", "anchr", "no 'observer' 'anchr'; did you mean 'anchor'?"),
        ("fcos", "anchor", "'observer' is 'anchor', but that of FCOSHead is 'point'; leave it out"),
        (
            "faster_rcnn",
            "anchor",
            "'observer' is 'anchor', but that of StandardRoIHead behind RPNHead is 'two_stage'",
        ),
    ],
)
def test_a_declaration_that_cannot_be_is_refused_by_the_planner(
    project: Path, base: str, observer: str, problem: str
) -> None:
    path = Path(f"configs/detectors/{base}.yaml")
    path.write_text(f"observer: {observer}\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError) as error:
        Library().detector(base, "study")
    assert str(path) in str(error.value)
    assert problem in str(error.value)


def test_a_run_depends_on_a_declared_observer_alone(project: Path) -> None:
    library = write("declared", "retinanet", UNLISTED, "anchor")
    assert canonical_detector(model(library, "declared", "retinanet"))["observer"] == "anchor"
    assert "observer" not in canonical_detector(model(library, "retinanet", "retinanet"))


def test_every_observer_of_predictions_can_be_declared() -> None:
    assert REQUIRED.keys() == OBSERVABLE.keys() - {"maps"}
