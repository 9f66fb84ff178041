"""Each method's logged terms of a real run equal its formula on tensors recorded by hooks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd import methods
from kd.models import weights
from tests.methods.formulas import hooked, one_stage, two_stage
from tests.methods.formulas.hooked import Step
from tests.support.paths import CONFIGS
from tests.support.tiny_study import plan_study, write_tiny_parts

torch.set_num_threads(1)

ONE_STAGE: dict[str, dict[str, Any]] = {
    "rm": {"score": "logit"},  # of scores, nearly equal at first, float32 rounds 0.3 % away
    "pfi": {"input": "logit", "reduction": "squared"},
    "fitnets": {"region": "positive", "adaptation": "3x3"},
    "soft_labels": {"boxes": "positive", "temperature": 2.0},
    "fgfi": {"warmup_steps": 0},
    "fkd": {"form": "code"},
    "gid": {"least_side": 4.0},
    "chen": {"margin": 0.1},
    "dicod": {"crop_size": 32},
}
TWO_STAGE: dict[str, dict[str, Any]] = {
    "mimic": {},
    "tadf": {"regression": "l1", "classified": "foreground"},
    "defeat": {
        "positive_weight": 2.0,
        "negative_weight": 1.0,
        "negative_temperature": 3.0,
        "backbone_object_weight": 1.0,
        "backbone_background_weight": 1.0,
    },
}
"""Settings of the methods; DeFeat is last, so that its RoIs are the last that the student pools."""

POSITIVE_IOU = 0.25


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, shapes_root: Path, quiet_mmdet: None
) -> Iterator[None]:
    """Change to a project with the tiny parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("hooked"))
        shutil.copytree(CONFIGS, "configs")
        write_tiny_parts(shapes_root)
        yield


@pytest.fixture(scope="module")
def retinanet(project: None) -> list[Step]:
    """Train RetinaNet with all methods of one-stage detectors at once."""
    name = "+".join(ONE_STAGE)
    run = list(plan_study([name], ONE_STAGE, classifier="smoke").runs.values())[-1]
    save_classifier(run.config["model"])
    return hooked.train(run, hooked.DENSE)


@pytest.fixture(scope="module")
def faster_rcnn(project: None) -> list[Step]:
    """Train Faster R-CNN with the methods that read RoIs."""
    plan = plan_study(["+".join(TWO_STAGE)], TWO_STAGE, detectors=("faster_rcnn",))
    run = list(plan.runs.values())[-1]
    # Proposals of random weights fit no object by half; at 0.5 objects alone would be positive.
    assigner = run.config["model"]["student"]["train_cfg"]["rcnn"]["assigner"]
    assigner.update(dict.fromkeys(("pos_iou_thr", "neg_iou_thr", "min_pos_iou"), POSITIVE_IOU))
    return hooked.train(run, hooked.TWO_STAGE)


def save_classifier(model: dict[str, Any]) -> None:
    """Save random weights of the teaching classifier."""
    from mmdet.registry import MODELS

    torch.manual_seed(7)
    state = MODELS.build(dict(model["classifier"])).state_dict()
    weights.save(Path(model["classifier_checkpoint"]), {"state_dict": state})


FORMULAS = one_stage.FORMULAS | two_stage.FORMULAS


WITHOUT_FORMULA = {"bckd", "crosskd", "cwd", "fgd", "frs", "ld", "mgd", "pkd"}
"""Methods whose terms in a log no formula computes yet; golden data or hand values check them."""


def test_every_method_has_a_formula() -> None:
    assert FORMULAS.keys() | WITHOUT_FORMULA == set(methods.names())
    assert FORMULAS.keys() == ONE_STAGE.keys() | TWO_STAGE.keys()


@pytest.mark.parametrize("method", FORMULAS)
def test_the_log_has_the_terms_of_the_formula(method: str, request: pytest.FixtureRequest) -> None:
    steps: list[Step] = request.getfixturevalue(
        "retinanet" if method in ONE_STAGE else "faster_rcnn"
    )
    assert len(steps) >= 3
    largest: dict[str, float] = {}
    for step in steps:
        with torch.no_grad():
            terms = FORMULAS[method](step, step.distiller.terms[method])
        logged = {name: step.record[name] for name in terms}
        names = {name for name in step.record if name.startswith(f"loss_{method}")}
        assert names == {name for name in terms if name.startswith(f"loss_{method}")}
        assert {name: float(value) for name, value in terms.items()} == pytest.approx(
            logged, rel=1e-4, abs=0
        )
        largest = {name: max(largest.get(name, 0), value) for name, value in logged.items()}
    assert all(value > 0 for value in largest.values())
