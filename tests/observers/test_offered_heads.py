"""Each observer offers what can be recorded of each head it serves; other heads show maps alone."""

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
    offered,
)
from tests.support.paths import CONFIGS
from tests.support.tiny import make_project
from tests.support.tiny_detectors import CLASSES

FAMILIES = ["retinanet", "atss", "gfl", "fcos", "ssd300", "yolov3", "faster_rcnn", "cascade_rcnn"]
PUBLISHED = Path(mmdet.__file__).parent / ".mim" / "configs"
OTHERS = {
    "rtmdet": "rtmdet/rtmdet_l_8xb32-300e_coco.py",
    "tood": "tood/tood_r50_fpn_1x_coco.py",
    "vfnet": "vfnet/vfnet_r50_fpn_1x_coco.py",
    "fsaf": "fsaf/fsaf_r50_fpn_1x_coco.py",
}
TRAINED = ["rtmdet", "fsaf"]
"""The heads of TOOD and VFNet need operators of a compiled mmcv, trained alone, too."""
WIDTH = 32


def read_class_maps(seen: Any) -> None:
    levels = zip(seen.class_maps, seen.neck, strict=True)
    assert all(scores.shape[2:] == maps.shape[2:] for scores, maps in levels)


def read_priors(seen: Any) -> None:
    image, prior = (seen.assignment >= 0).nonzero(as_tuple=True)
    assert len(image) and seen.sampled[image, prior].all()
    assert seen.logits.shape[:2] == seen.assignment.shape == (2, len(seen.priors))
    assert seen.boxes(image, prior).isfinite().all()
    truth = [
        seen.batch.gt_boxes[i][seen.assignment[i, p]] for i, p in zip(image, prior, strict=True)
    ]
    assert seen.encode(torch.stack(truth), prior).shape[1] == 4


def read_anchors(seen: Any) -> None:
    assert (seen.priors[:, 2:] > seen.priors[:, :2]).all()


def read_rankings(seen: Any) -> None:
    """Some object has several positive priors."""
    rows = seen.every_prior.positive.instance
    assert len(rows) > len(rows.unique())


def read_candidates(seen: Any) -> None:
    positive = seen.candidates.positive
    assert len(positive)
    assert seen.candidate_logits(positive).isfinite().all()
    assert seen.candidate_boxes(positive).shape == (len(positive), 4)
    assert seen.candidate_codes(positive).shape == seen.candidate_targets(positive).shape


def read_rois(seen: Any) -> None:
    found = seen.sample(seen.proposals)
    assert seen.roi_features(found.rois).shape[0] == len(found.rois)


def read_pyramid(seen: Any) -> None:
    assert len({maps.shape[1] for maps in seen.neck}) == 1


READ: dict[str, Callable[[Any], None]] = {
    "neck": lambda seen: read_maps(seen.neck),
    "stages": lambda seen: read_maps(seen.stages),
    "pyramid": read_pyramid,
    "class_maps": read_class_maps,
    "priors": read_priors,
    "anchors": read_anchors,
    "rankings": read_rankings,
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
def test_what_a_head_offers_can_be_recorded(build: Any, batch: Any, family: str) -> None:
    seen = observe(build(family), batch(), frozen=False)
    seen.losses()
    for name in offered(Library(CONFIGS).detector(family, "test").model):
        READ[name](seen)


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
    model = {"backbone": {}, "bbox_head": {"type": "VFNetHead"}}
    assert observer_of_model(model) == "maps"
    assert observer_of_model(model | {"bbox_head": {"type": "mmdet.RetinaHead"}}) == "anchor"


# --- Heads of mmdet that no observer reads ---------------------------------------------------


def published(name: str) -> dict[str, Any]:
    """Return mmdet's own model dict, of a few channels, with BN where it has SyncBN."""
    model = Config.fromfile(PUBLISHED / OTHERS[name]).to_dict()["model"]
    model["neck"] |= {"out_channels": WIDTH, "in_channels": [16, 32, 64]}
    model["bbox_head"] |= {
        "num_classes": CLASSES, "in_channels": WIDTH, "feat_channels": WIDTH, "stacked_convs": 1,
    }  # fmt: skip
    model["backbone"] = {
        "type": "ResNet", "depth": 18, "base_channels": 8, "out_indices": [1, 2, 3],
        "norm_eval": False,
    }  # fmt: skip
    if name == "rtmdet":
        model["neck"] |= {"num_csp_blocks": 1, "norm_cfg": {"type": "BN"}}
        model["bbox_head"]["norm_cfg"] = {"type": "BN"}
    else:
        model["neck"]["start_level"] = 0
    return model


def made(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    detector = build_model(composed_detector(published(name)))
    detector.init_weights()
    return detector.train()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """The project's configuration and, as files of a user, these detectors in mmdet's terms."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    for name in OTHERS:
        model = published(name)
        del model["backbone"], model["neck"]["in_channels"]
        text = yaml.safe_dump({"title": name, "model": model})
        (tmp_path / "configs" / "detectors" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return Library()


@pytest.mark.parametrize("name", TRAINED)
def test_losses_of_another_head_are_mmdets_to_the_bit(
    quiet_mmdet: None, batch: Any, name: str
) -> None:
    detector, data = made(name), batch()
    seen = observe(detector, data, frozen=False)
    losses, alone = seen.losses(), detector.loss(data.inputs, data.samples)
    assert losses.keys() == alone.keys()
    for key, value in alone.items():
        torch.testing.assert_close(losses[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_that_a_plan_accepts_for_another_head_trains_it(
    quiet_mmdet: None, batch: Any, library: Library, name: str
) -> None:
    student, teacher, data = made(name), made(name, 1).eval(), batch()
    widths: list[Channels] = [channels_of(each) for each in (student, teacher)]
    accepted = [method for method, row in matrix(library).items() if not row[name]]
    assert {"fitnets", "defeat", "fkd"} <= set(accepted)
    for method in accepted:
        (settings,) = resolve(method, {}, name, library, "test").values()
        term = method_of(settings)
        if term.needs.teacher != "detector":
            continue
        seen, taught = observe(student, data, frozen=False), observe(teacher, data, frozen=True)
        assert seen.losses()
        adapters = nn.ModuleDict(term.adapters(*widths))
        terms = [
            value
            for each in term.losses(seen, taught, data, adapters).values()
            for value in (each if isinstance(each, list) else [each])
        ]
        assert terms and all(value.isfinite() for value in terms), method
        torch.stack([value.sum() for value in terms]).sum().backward()
    assert any(parameter.grad is not None for parameter in student.backbone.parameters())


@pytest.mark.parametrize("name", OTHERS)
def test_a_method_that_reads_predictions_of_another_head_is_refused_with_what_is_read(
    library: Library, name: str
) -> None:
    terms = resolve("rm", {}, name, library, "test")
    with pytest.raises(UserError) as refused:
        check_readable(terms, name, name, library, "configs/studies/x.yaml")
    head = published(name)["bbox_head"]["type"]
    for text in ("'rm'", f"'{name}'", head, "neck's and backbone's maps alone", *DENSE_HEADS):
        assert text in str(refused.value)
    assert "\n" not in str(refused.value)
