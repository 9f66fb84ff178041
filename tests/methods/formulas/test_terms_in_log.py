"""Each method's logged terms of a real run equal its formula on tensors recorded by hooks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kd import methods
from kd.models import weights
from tests.methods.formulas import dense_outputs, hooked, neck_maps, one_stage, two_stage
from tests.methods.formulas.hooked import Step
from tests.support.paths import CONFIGS
from tests.support.tiny import edit
from tests.support.tiny_study import plan_study, write_tiny_parts

torch.set_num_threads(1)

Settings = dict[str, dict[str, Any]]
WARMUP = {"warmup_steps": 4, "warmup_share": 1.0}
ON_RETINANET: Settings = {
    "rm": {"score": "logit"},  # of scores, nearly equal at first, float32 rounds 0.3 % away
    "pfi": {"input": "logit", "reduction": "squared"},
    "fitnets": {"region": "positive", "adaptation": "3x3"},
    "soft_labels": {"boxes": "positive", "temperature": 2.0},
    "fgfi": {"warmup_steps": 0},
    "fkd": {"form": "code"},
    "gid": {"least_side": 4.0},
    "chen": {"margin": 0.1},
    "dicod": {"crop_size": 32},
    "pkd": {},
    "cwd": {"temperature": 2.0},
    "mgd": {},
    "frs": WARMUP,
    "fgd": {},
    "bckd": {},
    "crosskd": {},
}
ON_WIDE_TEACHER: Settings = {
    "pkd": {"levels": 5},
    "cwd": {},
    "mgd": {},
    "frs": WARMUP | {"class_weight": 0.0},
    "fgd": {"temperature": 0.8},
}
"""Methods of RetinaNet with a teacher whose neck has more channels than the student's."""
ON_GFL: Settings = {
    "cwd": {"maps": "class"},
    "frs": WARMUP,
    "ld": {},
    "bckd": {"power": 2.0},
    "crosskd": {"beta": 2.0, "temperature": 3.0, "region": "scores", "divisor": "scores"},
}
ON_FASTER_RCNN: Settings = {
    "mimic": {},
    "tadf": {"regression": "l1", "classified": "foreground"},
    "pkd": {},
    "cwd": {"normalize": True},
    "mgd": {},
    "frs": WARMUP,
    "fgd": {},
    "defeat": {
        "positive_weight": 2.0,
        "negative_weight": 1.0,
        "negative_temperature": 3.0,
        "backbone_object_weight": 1.0,
        "backbone_background_weight": 1.0,
    },
}
"""Settings of the methods; DeFeat is last, so that its RoIs are the last that the student pools."""
TRAININGS = {
    "retinanet": ON_RETINANET,
    "wide_teacher": ON_WIDE_TEACHER,
    "gfl": ON_GFL,
    "faster_rcnn": ON_FASTER_RCNN,
}
"""Settings of the methods of each training, by the training's fixture."""
CELLS = [(training, method) for training, settings in TRAININGS.items() for method in settings]
FORMULAS = one_stage.FORMULAS | two_stage.FORMULAS | neck_maps.FORMULAS | dense_outputs.FORMULAS

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
        for detector in ("retinanet", "gfl"):  # CrossKD's features are between two convolutions
            key = f"detectors__{detector}__bbox_head__stacked_convs"
            edit("configs/scales/tiny.yaml", **{key: 2})
        yield


@pytest.fixture(scope="module")
def retinanet(project: None) -> list[Step]:
    """Train RetinaNet with all methods of one-stage detectors at once."""
    run = planned_run(ON_RETINANET, classifier="smoke")
    save_classifier(run.config["model"])
    return hooked.train(run, hooked.RETINANET)


@pytest.fixture(scope="module")
def wide_teacher(project: None) -> list[Step]:
    """Train RetinaNet with a teacher whose neck has more channels."""
    run = planned_run(ON_WIDE_TEACHER, teacher_detector="retinanet-wide")
    return hooked.train(run, hooked.RETINANET)


@pytest.fixture(scope="module")
def gfl(project: None) -> list[Step]:
    """Train GFL with the methods that read distributions of box sides, and with class maps."""
    return hooked.train(planned_run(ON_GFL, detectors=("gfl",)), hooked.GFL)


@pytest.fixture(scope="module")
def faster_rcnn(project: None) -> list[Step]:
    """Train Faster R-CNN with the methods that read RoIs or neck maps."""
    run = planned_run(ON_FASTER_RCNN, detectors=("faster_rcnn",))
    # Proposals of random weights fit no object by half; at 0.5 objects alone would be positive.
    assigner = run.config["model"]["student"]["train_cfg"]["rcnn"]["assigner"]
    assigner.update(dict.fromkeys(("pos_iou_thr", "neg_iou_thr", "min_pos_iou"), POSITIVE_IOU))
    return hooked.train(run, hooked.TWO_STAGE)


def planned_run(settings: Settings, **options: Any) -> Any:
    """Return the run of a study that joins the methods of ``settings``."""
    return list(plan_study(["+".join(settings)], settings, **options).runs.values())[-1]


def save_classifier(model: dict[str, Any]) -> None:
    """Save random weights of the teaching classifier."""
    from mmdet.registry import MODELS

    torch.manual_seed(7)
    state = MODELS.build(dict(model["classifier"])).state_dict()
    weights.save(Path(model["classifier_checkpoint"]), {"state_dict": state})


def test_every_method_has_a_formula_and_a_training() -> None:
    assert FORMULAS.keys() == set(methods.names()) == {method for _, method in CELLS}


@pytest.mark.parametrize(("training", "method"), CELLS)
def test_the_log_has_the_terms_of_the_formula(
    training: str, method: str, request: pytest.FixtureRequest
) -> None:
    steps: list[Step] = request.getfixturevalue(training)
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
