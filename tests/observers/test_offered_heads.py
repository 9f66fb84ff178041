"""Observers offer features that can be recorded of their heads; of other heads, maps alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmdet
import pytest
import torch
import yaml
from mmengine.config import Config
from torch import nn

from kd.common.errors import UserError
from kd.config.applicability import matrix
from kd.config.canonical import composed_detector
from kd.config.library import Library
from kd.config.terms import check_readable, method_of, resolve
from kd.models.build import build_model
from kd.observers import observe
from kd.observers.base import Channels, channels_of
from kd.observers.heads import (
    DENSE_HEADS,
    OBSERVABLE,
    ROI_HEADS,
    head_types,
    observer_of_model,
)
from tests.support.paths import CONFIGS
from tests.support.tiny import make_project
from tests.support.tiny_detectors import CLASSES

FAMILIES = [
    *("retinanet", "atss", "gfl", "fcos", "vfnet", "tood", "ddod", "reppoints", "ssd300"),
    *("yolov3", "rtmdet", "yolox", "faster_rcnn", "cascade_rcnn"),
]
PUBLISHED = Path(mmdet.__file__).parent / ".mim" / "configs"
OTHERS = {"fsaf": "fsaf/fsaf_r50_fpn_1x_coco.py"}
WIDTH = 32


def read_class_maps(observation: Any) -> None:
    levels = zip(observation.class_maps, observation.neck, strict=True)
    assert all(scores.shape[2:] == maps.shape[2:] for scores, maps in levels)


def read_towers(observation: Any) -> None:
    depth = len(observation.head.cls_convs)
    assert [len(branch) for branch in observation.towers] == [depth + 1] * 2
    for levels in (levels for branch in observation.towers for levels in branch):
        read_maps(levels)
        assert [maps.shape[2:] for maps in levels] == [maps.shape[2:] for maps in observation.neck]


def read_priors(observation: Any) -> None:
    image, prior = (observation.assignment >= 0).nonzero(as_tuple=True)
    assert len(image) and observation.sampled[image, prior].all()
    assert (
        observation.logits.shape[:2] == observation.assignment.shape == (2, len(observation.priors))
    )
    boxes = observation.boxes(image, prior)
    assert boxes.isfinite().all()
    torch.testing.assert_close(observation.prior_boxes[image, prior], boxes)
    truth = [
        observation.batch.gt_boxes[i][observation.assignment[i, p]]
        for i, p in zip(image, prior, strict=True)
    ]
    assert observation.encode(torch.stack(truth), prior).shape[1] == 4


def read_anchors(observation: Any) -> None:
    assert (observation.priors[:, 2:] > observation.priors[:, :2]).all()


def read_rankings(observation: Any) -> None:
    """Assert that some object has several positive priors."""
    rows = observation.every_prior.positive.instance
    assert len(rows) > len(rows.unique())


def read_candidates(observation: Any) -> None:
    positive = observation.candidates.positive
    assert len(positive)
    assert observation.candidate_logits(positive).isfinite().all()
    assert observation.candidate_boxes(positive).shape == (len(positive), 4)
    assert (
        observation.candidate_codes(positive).shape == observation.candidate_targets(positive).shape
    )


def read_rois(observation: Any) -> None:
    candidates = observation.sample(observation.proposals)
    assert observation.pool(observation.region_maps, candidates.rois).shape[0] == len(
        candidates.rois
    )


def read_pyramid(observation: Any) -> None:
    assert len({maps.shape[1] for maps in observation.neck}) == 1


def read_class_sigmoids(observation: Any) -> None:
    assert not observation.softmax
    for classes, probabilities in zip(
        observation.class_maps, observation.probability_maps, strict=True
    ):
        torch.testing.assert_close(classes.sigmoid(), probabilities, rtol=0, atol=0)


def read_sides(observation: Any) -> None:
    """Assert that the means of the distributions are the encoded boxes."""
    image, prior = (observation.assignment >= 0).nonzero(as_tuple=True)
    distances = torch.arange(observation.sides.shape[-1], dtype=torch.float)
    means = (observation.sides[image, prior].softmax(-1) * distances).sum(-1)
    torch.testing.assert_close(means, observation.codes(image, prior))


READ: dict[str, Callable[[Any], None]] = {
    "neck": lambda observation: read_maps(observation.neck),
    "stages": lambda observation: read_maps(observation.stages),
    "pyramid": read_pyramid,
    "class_maps": read_class_maps,
    "priors": read_priors,
    "anchors": read_anchors,
    "rankings": read_rankings,
    "class_sigmoids": read_class_sigmoids,
    "score_maps": read_class_maps,
    "towers": read_towers,
    "sides": read_sides,
    "candidates": read_candidates,
    "rois": read_rois,
}


def read_maps(maps: list[torch.Tensor]) -> None:
    assert all(level.isfinite().all() and level.shape[0] == 2 for level in maps)


def test_a_reading_of_every_feature_is_tested_and_every_head_has_a_family() -> None:
    assert READ.keys() == frozenset().union(*OBSERVABLE.values())
    types = {head_types(Library(CONFIGS).detector(name, "test").model) for name in FAMILIES}
    assert {dense for dense, roi in types if not roi} == DENSE_HEADS.keys()
    assert {roi for _, roi in types if roi} == ROI_HEADS.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_features_that_a_head_offers_can_be_recorded(build: Any, batch: Any, family: str) -> None:
    observation = observe(build(family), batch(), frozen=False)
    observation.losses()
    for name in Library(CONFIGS).detector(family, "test").offered:
        READ[name](observation)


@pytest.mark.parametrize("name", Library(CONFIGS).names("detectors"))
def test_a_detector_has_the_observer_that_the_planner_reads_from_its_file(
    build: Any, name: str
) -> None:
    model = Library(CONFIGS).detector(name, "test").model
    assert build(name).observer == observer_of_model(model) != "maps"


@pytest.mark.parametrize(
    ("family", "observer", "heads"),
    [
        ("retinanet", "point", "GlobalBatchRetinaHead is 'anchor'"),
        ("fcos", "maps", "FCOSHead is 'point'"),
        ("faster_rcnn", "cascade", "GlobalBatchRPNHead and StandardRoIHead is 'two_stage'"),
    ],
)
def test_a_detector_is_not_built_with_the_observer_of_another_head(
    quiet_mmdet: None, model_config: Any, family: str, observer: str, heads: str
) -> None:
    with pytest.raises(UserError) as error:
        build_model(model_config(family) | {"observer": observer})
    assert f"key 'observer' of the model is '{observer}', but the observer of {heads}" in str(
        error.value
    )


def test_a_head_that_derives_from_a_known_one_is_not_taken_for_it() -> None:
    model = {"backbone": {}, "bbox_head": {"type": "FSAFHead"}}
    assert observer_of_model(model) == "maps"
    assert observer_of_model(model | {"bbox_head": {"type": "mmdet.RetinaHead"}}) == "anchor"


# --- Heads of mmdet whose predictions no observer reads -------------------------------------


def published(name: str) -> dict[str, Any]:
    """Return the published model dict with few channels, and BN in place of SyncBN."""
    model = Config.fromfile(PUBLISHED / OTHERS[name]).to_dict()["model"]
    model["neck"] |= {"out_channels": WIDTH, "in_channels": [16, 32, 64]}
    model["bbox_head"] |= {
        "num_classes": CLASSES, "in_channels": WIDTH, "feat_channels": WIDTH, "stacked_convs": 1,
    }  # fmt: skip
    model["backbone"] = {
        "type": "ResNet", "depth": 18, "base_channels": 8, "out_indices": [1, 2, 3],
        "norm_eval": False,
    }  # fmt: skip
    model["neck"]["start_level"] = 0
    return model


def other_detector(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    detector = build_model(composed_detector(published(name)))
    detector.init_weights()
    return detector.train()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Return the project's configuration with these detectors of mmdet as a user's files."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    for name in OTHERS:
        model = published(name)
        del model["backbone"], model["neck"]["in_channels"]
        text = yaml.safe_dump({"title": name, "model": model})
        (tmp_path / "configs" / "detectors" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Library()


@pytest.mark.parametrize("name", OTHERS)
def test_losses_of_another_head_are_bit_identical_to_mmdets(
    quiet_mmdet: None, batch: Any, name: str
) -> None:
    detector, data = other_detector(name), batch()
    observation = observe(detector, data, frozen=False)
    losses, mmdet_losses = observation.losses(), detector.loss(data.inputs, data.samples)
    assert losses.keys() == mmdet_losses.keys()
    for key, value in mmdet_losses.items():
        torch.testing.assert_close(losses[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", OTHERS)
def test_every_method_that_a_plan_accepts_for_another_head_trains_it(
    quiet_mmdet: None, batch: Any, library: Library, name: str
) -> None:
    student, teacher, data = other_detector(name), other_detector(name, 1).eval(), batch()
    widths: list[Channels] = [channels_of(detector) for detector in (student, teacher)]
    accepted = [method for method, row in matrix(library).items() if not row[name]]
    assert {"fitnets", "defeat", "fkd"} <= set(accepted)
    for method in accepted:
        (settings,) = resolve(method, {}, name, library, "test").values()
        term = method_of(settings)
        if term.needs.teacher != "detector":
            continue
        student_observation, teacher_observation = (
            observe(student, data, frozen=False),
            observe(teacher, data, frozen=True),
        )
        assert student_observation.losses()
        adapters = nn.ModuleDict(term.adapters(*widths))
        losses = term.losses(student_observation, teacher_observation, data, adapters)
        terms = [
            value
            for levels in losses.values()
            for value in (levels if isinstance(levels, list) else [levels])
        ]
        assert terms and all(value.isfinite() for value in terms), method
        torch.stack([value.sum() for value in terms]).sum().backward()
    assert any(parameter.grad is not None for parameter in student.backbone.parameters())


@pytest.mark.parametrize("name", OTHERS)
def test_a_method_that_reads_predictions_of_another_head_is_refused(
    library: Library, name: str
) -> None:
    terms = resolve("rm", {}, name, library, "test")
    with pytest.raises(UserError) as refused:
        check_readable(terms, name, name, library, "configs/studies/x.yaml")
    head = published(name)["bbox_head"]["type"]
    for text in ("'rm'", f"'{name}'", head, "methods read only the neck", *DENSE_HEADS):
        assert text in str(refused.value)
    assert "\n" not in str(refused.value)
