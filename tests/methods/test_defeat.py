"""DeFeat: the values of the method reference, values worked out by hand, and properties."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.config.library import Library
from kd.config.terms import method_of, resolve
from kd.methods.defeat import DeFeat, imitation, mean_divergence
from kd.observers import Candidates, Channels, Progress, channels_of, observe
from tests.support.paths import CONFIGS

torch.set_num_threads(1)

IDENTITY = nn.ModuleDict()
"""No adaptation: maps are compared as they are."""
OFF = {"object_weight": 0, "background_weight": 0}
HEAD = OFF | {"positive_weight": 2, "negative_weight": 2}
BACKBONE = OFF | {"backbone_object_weight": 1, "backbone_background_weight": 1}


def batch_of(boxes: list[list[list[float]]], side: int = 64) -> Any:
    """A batch of square images with boxes, per image."""
    return SimpleNamespace(
        inputs=torch.zeros(len(boxes), 3, side, side),
        samples=[None] * len(boxes),
        gt_boxes=[torch.tensor(each).reshape(-1, 4) for each in boxes],
    )


def view(neck: list[Tensor], strides: list[int], **others: Any) -> SimpleNamespace:
    return SimpleNamespace(neck=neck, strides=strides, **others)


def random_models(sizes: tuple[int, ...] = (8, 4), images: int = 2) -> tuple[Any, Any]:
    """Student and teacher: levels of strides 8 and 16 on 64 pixels, 3 channels."""
    torch.manual_seed(0)
    maps = [[torch.randn(images, 3, size, size) for size in sizes] for _ in range(2)]
    for each in (level for model in maps for level in model):
        each.requires_grad_()
    return tuple(view(neck, [8, 16]) for neck in maps)  # type: ignore[return-value]


def losses(models: Any, batch: Any, adapters: nn.ModuleDict = IDENTITY, **settings: Any) -> Any:
    return DeFeat(**settings).losses(*models, batch, adapters)


def total(models: Any, batch: Any, **settings: Any) -> Tensor:
    parts = losses(models, batch, **settings).values()
    return sum(torch.stack(part).sum() if isinstance(part, list) else part for part in parts)


ONE_CELL = [[0.0, 0.0, 32.0, 32.0]]
"""Of a map of stride 32, the first cell."""
TWO_OBJECTS = [[[0.0, 0.0, 20.0, 12.0]], [[30.0, 30.0, 60.0, 62.0]]]


# --- Golden values -------------------------------------------------------------------------


def golden() -> tuple[Any, Any]:
    """Two channels, 2 x 2 cells: the object's cell differs by (1, 2), the others by 1."""
    difference = torch.ones(1, 2, 2, 2)
    difference[0, 1, 0, 0] = 2
    return view([difference], [32]), view([torch.zeros(1, 2, 2, 2)], [32])


def test_golden_value_of_a_decoupled_neck():
    found = losses(golden(), batch_of([ONE_CELL]))
    assert found["loss_defeat_object"][0].item() == pytest.approx(4 * 1.25)
    assert found["loss_defeat_background"][0].item() == pytest.approx(16 * 0.5)
    assert total(golden(), batch_of([ONE_CELL])).item() == pytest.approx(13.0)


def test_golden_value_of_the_whole_map():
    """Eight numbers, seven differ by 1 and one by 2: 4 / (2 * 8) * 11."""
    found = losses(golden(), batch_of([ONE_CELL]), neck="whole")
    assert found.keys() == {"loss_defeat_neck"}
    assert found["loss_defeat_neck"][0].item() == pytest.approx(4 / 16 * 11)


def test_levels_are_averaged_and_one_without_objects_counts():
    student, teacher = golden()
    student = view(student.neck * 2, [32, 64])
    found = losses((student, view(teacher.neck * 2, [32, 64])), batch_of([ONE_CELL]))
    assert [round(x.item(), 5) for x in found["loss_defeat_object"]] == [4 * 1.25 / 2, 0]
    background = [16 * 0.5 / 2, 16 / 2 * (1 * 7 + 4) / (2 * 8)]
    assert [x.item() for x in found["loss_defeat_background"]] == pytest.approx(background)


def test_cells_are_counted_over_the_batch():
    """The second image has no object: its four cells join the first one's three."""
    student = view([golden()[0].neck[0].repeat(2, 1, 1, 1)], [32])
    teacher = view([torch.zeros(2, 2, 2, 2)], [32])
    found = losses((student, teacher), batch_of([ONE_CELL, []]))
    assert found["loss_defeat_object"][0].item() == pytest.approx(4 * 1.25)
    by_hand = (6 + 11) / (2 * 7 * 2)
    assert found["loss_defeat_background"][0].item() == pytest.approx(16 * by_hand)


def test_divergence_worked_out_by_hand():
    """Two classes at T = 2: probabilities 3/4 and 1/4 against 1/2 each, times 4."""
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    by_hand = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert mean_divergence(teacher, student, 2).item() == pytest.approx(by_hand, rel=1e-6)


# --- Neck ----------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"neck": "whole"}])
def test_equal_maps_cost_nothing_and_others_do(settings):
    student, teacher = random_models()
    assert total((student, student), batch_of(TWO_OBJECTS), **settings).item() == 0
    assert total((student, teacher), batch_of(TWO_OBJECTS), **settings).item() > 0


@pytest.mark.parametrize("off", ["background_weight", "object_weight"])
def test_a_region_without_weight_gets_no_gradient(off):
    student, teacher = random_models()
    total((student, teacher), batch_of(TWO_OBJECTS), **{off: 0}).backward()
    inside = torch.zeros(2, 8, 8, dtype=torch.bool)
    inside[0, 0:1, 0:2] = True  # 20 x 12 pixels at stride 8
    inside[1, 3:7, 3:7] = True
    chosen = inside if off == "background_weight" else ~inside
    gradient = student.neck[0].grad.ne(0).any(1)
    assert torch.equal(gradient, chosen)
    assert teacher.neck[0].grad is None


def test_equal_weights_are_not_the_whole_map():
    """Two means are added, of the object's cell and of the three others."""
    apart = total(golden(), batch_of([ONE_CELL]), object_weight=4, background_weight=4)
    assert apart.item() == pytest.approx(4 * 1.25 + 4 * 0.5)
    assert total(golden(), batch_of([ONE_CELL]), neck="whole").item() == pytest.approx(2.75)


def test_more_background_of_the_same_kind_changes_nothing():
    student, teacher = golden()
    wide = torch.cat([student.neck[0], torch.ones(1, 2, 2, 3)], 3)
    padded = view([wide], [32]), view([torch.zeros_like(wide)], [32])
    torch.testing.assert_close(
        total(padded, batch_of([ONE_CELL])), total((student, teacher), batch_of([ONE_CELL]))
    )


def test_without_objects_half_the_mean_square_is_left():
    student, teacher = random_models()
    found = losses((student, teacher), batch_of([[], []]))
    assert all(term.item() == 0 for term in found["loss_defeat_object"])
    for level, term in enumerate(found["loss_defeat_background"]):
        square = (student.neck[level] - teacher.neck[level]).square().mean()
        torch.testing.assert_close(term, 16 / 2 * square / 2)
    total((student, teacher), batch_of([[], []])).backward()
    assert student.neck[0].grad.isfinite().all()


def test_an_object_that_fills_a_map_leaves_no_background():
    student, _ = golden()
    student.neck[0].requires_grad_()
    found = losses((student, golden()[1]), batch_of([[[0.0, 0.0, 64.0, 64.0]]]))
    assert found["loss_defeat_object"][0].item() == pytest.approx(4 * 11 / (2 * 4 * 2))
    found["loss_defeat_background"][0].backward()
    assert found["loss_defeat_background"][0].item() == 0


def test_an_object_smaller_than_a_cell_has_one():
    student, teacher = random_models()
    total(
        (student, teacher), batch_of([[[17.0, 9.0, 19.0, 11.0]], []]), background_weight=0
    ).backward()
    assert student.neck[0].grad.ne(0).any(1).nonzero().tolist() == [[0, 1, 2]]


def test_the_order_of_images_does_not_matter():
    student, teacher = random_models()
    turned = [view([level.flip(0) for level in m.neck], [8, 16]) for m in (student, teacher)]
    torch.testing.assert_close(
        total((student, teacher), batch_of(TWO_OBJECTS)), total(turned, batch_of(TWO_OBJECTS[::-1]))
    )


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    student = torch.randn(2, 2, 2, 2, dtype=torch.double, requires_grad=True)
    teacher, mask = torch.randn(2, 2, 2, 2), torch.randint(0, 2, (2, 2, 2)).double()

    def loss(maps: Tensor) -> Tensor:
        regions = [("object", 4.0, [mask]), ("background", 16.0, [1 - mask]), ("all", 1.0, [None])]
        return sum(sum(part) for part in imitation([maps], [teacher], regions).values())

    assert torch.autograd.gradcheck(loss, student)
    logits = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    wanted = torch.randn(3, 4, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda z: mean_divergence(wanted, z, 2.0), logits)


@pytest.mark.parametrize("settings", [{}, {"neck": "whole"}], ids=["decoupled", "whole"])
def test_float32_within_a_percent_where_the_networks_ran_in_bfloat16(distil_random_maps, settings):
    full, rounded = distil_random_maps(DeFeat(**settings), channels=24)
    torch.testing.assert_close(rounded, full, rtol=0.01, atol=0)


# --- Backbone ------------------------------------------------------------------------------


def staged(values: list[Tensor]) -> SimpleNamespace:
    return SimpleNamespace(stages=values)


def test_backbone_imitates_its_last_stages_under_one_mask_of_all_objects():
    """The object's 16 x 16 pixels are 4 x 4 cells at stride 4, hence 1 of 16 at stride 16."""
    layers = nn.ModuleDict({"stage0": nn.Identity(), "stage1": nn.Identity()})
    student = staged([torch.full((1, 2, n, n), v) for n, v in ((16, 9.0), (8, 3.0), (4, 2.0))])
    teacher = staged([torch.zeros_like(each) for each in student.stages])
    student.stages[2][0, :, 0, 0] = 5.0
    found = losses((student, teacher), batch_of([[[0, 0, 16, 16]]]), layers, **BACKBONE)
    assert [x.item() for x in found["loss_defeat_stage_object"]] == [9 / 2 / 2, 25 / 2 / 2]
    assert [x.item() for x in found["loss_defeat_stage_background"]] == [9 / 2 / 2, 4 / 2 / 2]
    assert len(found) == 2


def test_backbone_layers_end_in_a_relu_and_are_as_many_as_asked_for():
    widths = Channels([8] * 5, [4, 8, 16, 32]), Channels([8] * 5, [6, 12, 24, 48])
    layers = DeFeat(**BACKBONE).adapters(*widths)
    assert layers.keys() == {"stage0", "stage1"}
    assert layers["stage1"](torch.randn(1, 32, 3, 3)).shape == (1, 48, 3, 3)
    assert layers["stage0"](torch.randn(1, 16, 9, 9)).min() == 0
    assert len(DeFeat(**BACKBONE, backbone_stages=3).adapters(*widths)) == 3


# --- Second stage --------------------------------------------------------------------------


class Region:
    """A second stage that knows logits by RoI, and samples proposals into given candidates."""

    def __init__(self, logits: Tensor, sampled: Candidates, own: Candidates | None = None) -> None:
        self.logits, self.sampled, self.candidates = logits, sampled, own
        self.proposals = [torch.zeros(1, 4)]
        self.asked: list[Any] = []

    def candidate_logits(self, candidates: Candidates) -> Tensor:
        return self.logits[candidates.index]

    def sample(self, proposals: list[Tensor]) -> Candidates:
        self.asked.append(proposals)
        return self.sampled


def rois(instance: list[int], rows: range) -> Candidates:
    index, image = torch.tensor([*rows], dtype=torch.long), torch.zeros(len(rows), dtype=torch.long)
    return Candidates(image, index, torch.tensor(instance, dtype=torch.long), torch.zeros(9, 5))


@pytest.fixture
def stages() -> tuple[Region, Region]:
    """The teacher's proposals give rows 0 to 3, one positive; the student's own are rows 4 to 8."""
    torch.manual_seed(0)
    sampled, own = rois([0, -1, -1, -1], range(4)), rois([0, 1, -1, -1, -1], range(4, 9))
    student = Region(torch.randn(9, 6, requires_grad=True), sampled, own)
    return student, Region(torch.randn(9, 6, requires_grad=True), sampled)


def test_positive_and_negative_rois_of_the_teachers_proposals_apart(stages):
    student, teacher = stages
    heat = {"positive_temperature": 3.0, "negative_temperature": 2.0}
    found = losses(stages, None, **HEAD | heat | {"negative_weight": 5})
    positive, negative = slice(0, 1), slice(1, 4)
    torch.testing.assert_close(
        found["loss_defeat_positive"],
        2 * mean_divergence(teacher.logits[positive], student.logits[positive], 3.0),
    )
    torch.testing.assert_close(
        found["loss_defeat_negative"],
        5 * mean_divergence(teacher.logits[negative], student.logits[negative], 2.0),
    )
    assert student.asked == [teacher.proposals]


def test_rois_of_the_students_training_on_request(stages):
    student, teacher = stages
    found = losses(stages, None, **HEAD, rois="student")
    wanted = mean_divergence(teacher.logits[4:6], student.logits[4:6], 1.0)
    torch.testing.assert_close(found["loss_defeat_positive"], 2 * wanted)
    assert not student.asked


def test_all_rois_at_once_are_one_mean(stages):
    student, teacher = stages
    found = losses(stages, None, **HEAD | {"head": "whole"})
    wanted = 2 * mean_divergence(teacher.logits[:4], student.logits[:4], 1.0)
    torch.testing.assert_close(found, {"loss_defeat_rois": wanted})


def test_gradients_of_the_second_stage_reach_the_student_alone(stages):
    student, teacher = stages
    total(stages, None, **HEAD).backward()
    assert student.logits.grad[:4].ne(0).all() and student.logits.grad[4:].eq(0).all()
    assert teacher.logits.grad is None


@pytest.mark.parametrize("instance", [[-1] * 4, [0] * 4, []], ids=["negative", "positive", "no"])
def test_without_rois_of_a_kind_its_term_is_zero(stages, instance):
    student, _ = stages
    student.sampled = rois(instance, range(len(instance)))
    found = losses(stages, None, **HEAD)
    found["loss_defeat_positive"].backward(retain_graph=True)
    assert (found["loss_defeat_positive"].item() == 0) == (0 not in instance)
    assert (found["loss_defeat_negative"].item() == 0) == (-1 not in instance)
    assert student.logits.grad.isfinite().all()


@pytest.mark.parametrize("boxes", [(3, 2), (1, 0), (0, 0)])
@pytest.mark.parametrize("rois", ["teacher", "student"])
def test_the_full_method_on_faster_rcnn(build, batch, boxes, rois):
    data, (student, teacher) = batch(boxes), (build("faster_rcnn", seed=seed) for seed in (0, 1))
    seen = observe(student, data, frozen=False), observe(teacher.eval(), data, frozen=True)
    seen[0].losses()
    term = DeFeat(**HEAD | BACKBONE | {"object_weight": 4, "background_weight": 16}, rois=rois)
    layers = nn.ModuleDict(term.adapters(channels_of(student), channels_of(teacher)))
    found = term.losses(*seen, data, layers)
    assert all(torch.as_tensor(part).isfinite().all() for part in found.values())
    assert (found["loss_defeat_positive"] > 0) == any(boxes)
    assert (sum(found["loss_defeat_object"]) > 0) == any(boxes)
    sum(sum(p) if isinstance(p, list) else p for p in found.values()).backward()
    assert all(each.grad.isfinite().all() for each in layers.parameters())
    assert student.roi_head.bbox_head.fc_cls.weight.grad.ne(0).any()
    assert all(each.grad is None for each in teacher.parameters())


def test_equal_logits_cost_nothing_one_class_included(stages):
    student, _ = stages
    student.logits = torch.randn(9, 2)  # one class and background
    same = total((student, Region(student.logits, student.sampled)), None, **HEAD)
    assert same.item() == pytest.approx(0, abs=1e-6)


def test_whole_maps_of_the_backbone_have_one_term():
    """Squares of 9 and of 4: 9 / 2 / 2 and 4 / 2 / 2 on two stages, wherever objects lie."""
    layers = nn.ModuleDict({"stage0": nn.Identity(), "stage1": nn.Identity()})
    student = staged([torch.full((1, 2, n, n), v) for n, v in ((8, 3.0), (4, 2.0))])
    teacher = staged([torch.zeros_like(each) for each in student.stages])
    found = losses((student, teacher), batch_of([ONE_CELL]), layers, **BACKBONE, backbone="whole")
    assert {name: [x.item() for x in each] for name, each in found.items()} == {
        "loss_defeat_stage": [2.25, 1]
    }
    only_background = OFF | {"backbone_background_weight": 1}
    assert DeFeat(**only_background).needs.both == {"stages"}
    assert DeFeat(**only_background, backbone="whole").needs.both == set()


@pytest.mark.parametrize(("step", "rate"), [(0, 0), (500, 0.25), (2000, 1), (9000, 1)])
def test_weights_rise_over_the_warm_up(step, rate):
    batch = batch_of([ONE_CELL])
    batch.progress = Progress(step)
    found = losses(golden(), batch, warmup_steps=2000)
    assert found["loss_defeat_object"][0].item() == pytest.approx(5 * rate)


# --- Settings ------------------------------------------------------------------------------

READ = {
    "defeat": {"neck"},
    "defeat_object": {"neck"},
    "defeat_background": {"neck"},
    "defeat_all": {"neck"},
    "defeat_voc": {"neck"},
    "defeat_backbone": {"neck", "stages"},
    "defeat_up": {"neck", "stages"},
    "defeat_cls": {"neck", "candidates", "rois"},
    "defeat_cls_all": {"neck", "candidates", "rois"},
    "defeat_full": {"neck", "stages", "candidates", "rois"},
    "defeat_head": {"candidates", "rois"},
    "defeat_head_all": {"candidates", "rois"},
    "defeat_head_positive": {"candidates", "rois"},
    "defeat_head_negative": {"candidates", "rois"},
}


@pytest.mark.parametrize("preset", READ)
def test_presets_read_what_their_terms_need(preset):
    (settings,) = resolve(preset, {}, "faster_rcnn", Library(CONFIGS), "tests").values()
    assert settings["method"] == "defeat"
    assert method_of(settings).needs.both == READ[preset]


def test_every_preset_is_tested():
    presets = Library(CONFIGS).presets.items()
    assert {name for name, preset in presets if preset.method == "defeat"} | {
        "defeat"
    } == READ.keys()


def test_layers_start_small_and_all_of_them_learn():
    widths = Channels([3, 3], [4]), Channels([5, 5], [4])
    layers = nn.ModuleDict(DeFeat().adapters(*widths))
    weights = layers["level0"].weight
    assert weights.shape == (5, 3, 3, 3) and 5e-5 < weights.std() < 1e-4
    assert weights.abs().max() < 2e-4
    student, _ = random_models()
    teacher = view([torch.randn(2, 5, size, size) for size in (8, 4)], [8, 16])
    found = losses((student, teacher), batch_of([[], []]), layers)
    sum(sum(part) for part in found.values()).backward()
    assert all(each.grad.ne(0).any() for each in layers.parameters())


def test_focus_shows_the_cells_of_objects_and_the_positive_rois(stages):
    student, teacher = random_models()
    seen = DeFeat().focus(student, teacher, batch_of(TWO_OBJECTS))
    assert seen.maps["stride 8"].sum() == 2 and seen.maps["stride 16"].shape == (4, 4)
    boxes = DeFeat(**HEAD).focus(*stages, batch_of(TWO_OBJECTS)).boxes
    assert boxes["positive RoIs"].shape == (1, 4)
