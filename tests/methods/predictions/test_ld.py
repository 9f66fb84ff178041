"""LD: values worked out by hand, mmdet's LDHead, the valuable localization region, rare scenes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from kd.common.errors import UserError
from kd.config.library import Library
from kd.config.terms import check_readable, resolve
from kd.methods.ops.divergences import side_divergence
from kd.methods.predictions.ld import (
    LocalizationDistillation,
    atss_threshold,
    valuable_region,
)
from tests.methods.predictions.side_scene import BINS, Scene, anchors, scene
from tests.methods.scenes import total
from tests.support.paths import CONFIGS
from tests.support.tiny import make_project

torch.set_num_threads(1)

BOX, OTHER = [20.0, 10.0, 70.0, 55.0], [4.0, 8.0, 40.0, 44.0]
POSITIVE = {(0, 40): 0, (0, 41): 0, (1, 99): 0}


def losses_of(of: Scene, **settings: Any) -> dict[str, Any]:
    method = LocalizationDistillation(**settings)
    return method.losses(of.student, of.teacher, of.batch, torch.nn.ModuleDict())


# --- Values ----------------------------------------------------------------------------------


def test_the_divergence_of_sides_worked_out_by_hand():
    """One side has (2/3, 1/3) against (1/2, 1/2), the other three are equal."""
    teacher = torch.zeros(1, 4, 2)
    teacher[0, 2, 0] = math.log(2)
    by_hand = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    divergence = side_divergence(teacher, torch.zeros(1, 4, 2), 1.0)
    assert divergence.tolist() == pytest.approx([by_hand / 4])
    hot = side_divergence(5 * teacher, torch.zeros(1, 4, 2), 5.0)
    assert hot.tolist() == pytest.approx([25 * by_hand / 4])


def test_the_main_term_is_weighted_by_the_highest_probability_and_summed():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    by_hand = 0.0
    for image, prior in POSITIVE:
        rows = (model.sides[image, prior][None] for model in (of.teacher, of.student))
        score = of.student.logits[image, prior].sigmoid().max()
        by_hand += 0.25 * float(score * side_divergence(*rows, 10.0)) / BINS
    assert losses_of(of)["loss_ld"].item() == pytest.approx(by_hand)
    assert losses_of(of, per_images=4)["loss_ld"].item() == pytest.approx(2 * by_hand)
    assert losses_of(of, weight=1)["loss_ld"].item() == pytest.approx(4 * by_hand)


def test_the_region_term_is_weighted_by_iou():
    of = scene([BOX], [], positives={})
    region = valuable_region(anchors(), torch.tensor([BOX]).double(), all_valid(), settings())
    divergence = side_divergence(of.teacher.sides[0], of.student.sides[0], 10.0)
    by_hand = 0.0625 * (region * divergence).sum() / BINS
    losses = losses_of(of)
    assert losses["loss_ld_region"].item() == pytest.approx(by_hand.item())
    assert losses["loss_ld"].item() == 0
    assert (region > 0).sum() > 5


@pytest.mark.parametrize("boxes", [(3, 2), (0, 2), (0, 0)])
def test_the_main_term_equals_that_of_mmdets_head(build, batch, model_config, boxes):
    from mmdet.models.utils import unpack_gt_instances
    from mmdet.registry import MODELS

    from kd.observers import observe

    detector, data = build("gfl"), batch(boxes)
    student = observe(detector, data, frozen=False)
    student.losses()
    teacher = observe(build("gfl", seed=1), data, frozen=True)
    teacher.box_outputs = [level.detach() * 30 for level in teacher.box_outputs]
    config = model_config("gfl")
    distilled = {"type": "KnowledgeDistillationKLDivLoss", "loss_weight": 0.25, "T": 10}
    head = MODELS.build(
        {
            **config["bbox_head"],
            "type": "LDHead",
            "loss_ld": distilled,
            "train_cfg": config["train_cfg"],
        }
    )
    truth, ignored, metas = unpack_gt_instances(data.samples)
    theirs = head.loss_by_feat(*student.outputs, truth, metas, teacher.box_outputs, ignored)
    theirs = torch.stack(theirs["loss_ld"]).sum()
    method = LocalizationDistillation(region_weight=0)
    ours = method.losses(student, teacher, data, torch.nn.ModuleDict())["loss_ld"]
    torch.testing.assert_close(ours, theirs)
    assert bool(ours > 1e-4) == any(boxes)
    gradients = (
        torch.autograd.grad(loss, student.outputs[1], retain_graph=True) for loss in (ours, theirs)
    )
    for of_ours, of_theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(of_ours, of_theirs)


# --- The valuable localization region ----------------------------------------------------------


def settings(**changes: Any) -> LocalizationDistillation:
    return LocalizationDistillation(**changes)


def all_valid() -> Tensor:
    return torch.ones(sum(map(len, anchors())), dtype=torch.bool)


def squares(*corners: float) -> Tensor:
    """Return squares of 10 px in a row, from their left sides."""
    return torch.tensor([[x, 0.0, x + 10, 10] for x in corners])


def test_a_threshold_worked_out_by_hand():
    """IoUs 1 and 1/3 of the nearest two squares of a level: 2/3 + sqrt(2)/3; of one: none."""
    levels, box = [squares(0, 5, 8, 30)], squares(0)
    iou = torch.tensor([[1.0], [1 / 3], [1 / 9], [0]])
    valid = torch.ones(4, dtype=torch.bool)
    threshold = atss_threshold(levels, box, iou, valid, 2)
    assert threshold.item() == pytest.approx(2 / 3 + math.sqrt(2) / 3)
    valid[0] = False  # the nearest are now the second and third
    threshold = atss_threshold(levels, box, iou, valid, 2)
    deviation = (1 / 3 - 1 / 9) / math.sqrt(2)
    assert threshold.item() == pytest.approx((1 / 3 + 1 / 9) / 2 + deviation)
    assert atss_threshold(levels, box, iou, valid, 1).isnan()


def test_a_region_worked_out_by_hand():
    """The threshold is 0.8138, the mean and the deviation of IoUs 1, 1/3, 1/9 and 0."""
    levels, box, valid = [squares(0, 5, 8, 30)], squares(0), torch.ones(4, dtype=torch.bool)
    # DIoU: 1; 1/3 - 25 / 325 = 0.256; 1/9 - 64 / 424 < 0; below 0.
    region = valuable_region(levels, box, valid, settings(gamma=0.3))
    assert region.tolist() == pytest.approx([0, 1 / 3, 0, 0])
    assert not valuable_region(levels, box, valid, settings(gamma=0.4)).any()
    # With the anchor's area as divisor, the second DIoU is 1/2 - 25 / 325 = 0.423.
    region = valuable_region(levels, box, valid, settings(gamma=0.4, overlap="box"))
    assert region.tolist() == pytest.approx([0, 1 / 3, 0, 0])


def test_an_anchor_in_two_regions_has_the_larger_iou():
    levels, valid = anchors(), all_valid()
    boxes = torch.tensor([BOX, OTHER]).double()
    alone = [valuable_region(levels, box[None], valid, settings()) for box in boxes]
    assert ((alone[0] > 0) & (alone[1] > 0)).any()
    together = valuable_region(levels, boxes, valid, settings())
    torch.testing.assert_close(together, torch.maximum(*alone))


def test_priors_that_are_not_valid_take_no_part():
    levels, valid = anchors(), all_valid()
    box = torch.tensor([BOX]).double()
    region = valuable_region(levels, box, valid, settings())
    half = valid.clone()
    half[48:72] = False
    without = valuable_region(levels, box, half, settings())
    assert region[48:72].any() and not without[48:72].any()
    # The same as if the anchors did not exist.
    rest = [level[rows] for level, rows in zip(levels, half.split([96, 24]), strict=True)]
    torch.testing.assert_close(
        without[half], valuable_region(rest, box, torch.ones(96, dtype=torch.bool), settings())
    )


@pytest.mark.parametrize("box", [[30.0, 30, 30, 30], [8.0, 8, 8.5, 8.5], [-50.0, -50, 300, 300]])
def test_regions_of_empty_tiny_and_huge_boxes_are_numbers(box):
    region = valuable_region(anchors(), torch.tensor([box]).double(), all_valid(), settings())
    assert region.isfinite().all() and (region >= 0).all()


# --- Properties --------------------------------------------------------------------------------


def test_without_objects_both_terms_are_zero_with_a_gradient():
    of = scene([], [])
    losses = losses_of(of)
    assert {name: term.item() for name, term in losses.items()} == {
        "loss_ld": 0,
        "loss_ld_region": 0,
    }
    (gradient,) = torch.autograd.grad(total(losses), of.maps["sides"])
    assert not gradient.any()


def test_all_priors_positive():
    every = {(0, prior): 0 for prior in range(120)}
    of = scene([BOX], positives=every)
    assert losses_of(of)["loss_ld"].item() > 0


def test_the_loss_does_not_grow_with_the_number_of_images():
    once = scene([BOX], positives={(0, 40): 0})
    losses = losses_of(once)
    inputs = dict(once.student.inputs)
    for name in inputs.keys() - {"counts", "sizes", "priors"}:
        inputs[name] = torch.cat([inputs[name]] * 3)
    thrice = scene([BOX], [BOX], [BOX])
    views = (type(once.student)(inputs, side) for side in ("student", "teacher"))
    repeated = losses_of(Scene(*views, thrice.batch, {}))
    assert all(repeated[name].item() == pytest.approx(losses[name].item()) for name in losses)


def test_gradients_are_those_of_the_value():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    teacher, student = of.teacher.sides[0, 30:33], of.student.sides[0, 30:33].detach()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: side_divergence(teacher, s, 10.0), student)
    of.teacher.sides.requires_grad_()
    sides, classes = torch.autograd.grad(
        total(losses_of(of)), [of.maps["sides"], of.maps["classes"]], allow_unused=True
    )
    assert classes is None
    rows = sides.ne(0).any(1)
    assert rows[0, 40] and rows[0, 41] and rows[1, 99]
    assert of.teacher.sides.grad is None


def test_gradients_of_both_terms_agree_with_finite_differences():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    sides, region = of.student.sides.detach(), torch.tensor([[BOX], [OTHER]]).double()
    image = torch.tensor([0, 0, 1, 0, 1])
    inside = [
        int(valuable_region(anchors(), boxes, all_valid(), settings()).argmax()) for boxes in region
    ]
    prior = torch.tensor([40, 41, 99, *inside])

    def terms(rows: Tensor) -> tuple[Tensor, ...]:
        of.student.sides = sides.index_put((image, prior), rows)
        return tuple(losses_of(of, temperature=1.0).values())

    rows = sides[image, prior].requires_grad_()
    assert torch.autograd.gradcheck(terms, rows)
    gradients = torch.autograd.grad(sum(terms(rows)), rows)[0]
    assert gradients.flatten(1).any(1).all()


def test_zero_for_equal_distributions():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    equal = Scene(of.student, of.student, of.batch, of.maps)
    assert total(losses_of(equal)).abs() < 1e-12
    assert of.student.sides.shape[-1] == BINS


def test_a_weight_of_zero_leaves_a_term_out():
    of = scene([BOX], [OTHER], positives=POSITIVE)
    assert losses_of(of, region_weight=0).keys() == {"loss_ld"}
    assert losses_of(of, weight=0).keys() == {"loss_ld_region"}


@pytest.mark.parametrize("gamma", [-0.1, 1.0])
def test_a_share_that_leaves_no_region_is_refused(gamma):
    with pytest.raises(UserError, match=r"^here: settings of 'ld': key 'gamma': must be "):
        resolve("ld", {"ld": {"gamma": gamma}}, "gfl", Library(CONFIGS), "here")


def test_the_focus_is_the_region_of_the_first_image(build, batch):
    from kd.observers import observe

    data = batch((3, 0))
    student = observe(build("gfl"), data, frozen=False)
    student.losses()
    focus = LocalizationDistillation().focus(student, student, data)
    assert [tuple(level.shape) for level in focus.maps.values()] == student.sizes
    assert any(level.any() for level in focus.maps.values())
    (boxes,) = focus.boxes.values()
    assert len(boxes) == (student.assignment[0] >= 0).sum()


# --- Refusals ----------------------------------------------------------------------------------


def test_a_teacher_with_other_distributions_is_refused_in_one_line(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path, data=False))
    path = Path("configs/detectors/gfl.yaml")
    wide = yaml.safe_load(path.read_text(encoding="utf-8"))
    wide["model"]["bbox_head"]["reg_max"] = 8
    path.with_name("gfl-narrow.yaml").write_text(yaml.safe_dump(wide), encoding="utf-8")
    library = Library()
    terms = resolve("ld", {}, "gfl", library, "here")
    check_readable(terms, "gfl", "gfl", library, "here")
    with pytest.raises(UserError) as error:
        check_readable(terms, "gfl", "gfl-narrow", library, "here")
    assert str(error.value) == (
        "here: method 'ld' reads sides of both heads, whose 'reg_max' must be equal; the student's "
        "is 16 and the teacher's 8; `kd methods ld` lists its detectors"
    )


def test_a_head_without_distributions_is_refused():
    library = Library(CONFIGS)
    with pytest.raises(UserError, match="reads sides, which detector 'atss' does not offer"):
        check_readable(resolve("ld", {}, "atss", library, "x"), "atss", "atss", library, "x")
