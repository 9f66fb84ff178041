"""DeFeat's imitation of neck and backbone: reference values, values by hand, and gradients."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from kd.methods.features.defeat import DeFeat, imitation, mean_divergence
from kd.observers import Channels
from tests.methods.features.defeat.defeat_scene import (
    BACKBONE,
    OFF,
    ONE_CELL,
    TWO_OBJECTS,
    batch_of,
    golden,
    losses,
    random_models,
    total,
    view,
)

torch.set_num_threads(1)

# --- Golden values -------------------------------------------------------------------------


def test_golden_value_of_a_decoupled_neck():
    terms = losses(golden(), batch_of([ONE_CELL]))
    assert terms["loss_defeat_object"][0].item() == pytest.approx(4 * 1.25)
    assert terms["loss_defeat_background"][0].item() == pytest.approx(16 * 0.5)
    assert total(golden(), batch_of([ONE_CELL])).item() == pytest.approx(13.0)


def test_golden_value_of_the_whole_map():
    """Seven of eight numbers differ by 1 and one by 2: 4 / (2 * 8) * 11."""
    terms = losses(golden(), batch_of([ONE_CELL]), neck="whole")
    assert terms.keys() == {"loss_defeat_neck"}
    assert terms["loss_defeat_neck"][0].item() == pytest.approx(4 / 16 * 11)


def test_levels_are_averaged_and_one_without_objects_counts():
    student, teacher = golden()
    student = view(student.neck * 2, [32, 64])
    terms = losses((student, view(teacher.neck * 2, [32, 64])), batch_of([ONE_CELL]))
    assert [round(x.item(), 5) for x in terms["loss_defeat_object"]] == [4 * 1.25 / 2, 0]
    background = [16 * 0.5 / 2, 16 / 2 * (1 * 7 + 4) / (2 * 8)]
    assert [x.item() for x in terms["loss_defeat_background"]] == pytest.approx(background)


def test_cells_are_counted_over_the_batch():
    """The second image has no object: its four cells join the first one's three."""
    student = view([golden()[0].neck[0].repeat(2, 1, 1, 1)], [32])
    teacher = view([torch.zeros(2, 2, 2, 2)], [32])
    terms = losses((student, teacher), batch_of([ONE_CELL, []]))
    assert terms["loss_defeat_object"][0].item() == pytest.approx(4 * 1.25)
    by_hand = (6 + 11) / (2 * 7 * 2)
    assert terms["loss_defeat_background"][0].item() == pytest.approx(16 * by_hand)


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
    weighted = inside if off == "background_weight" else ~inside
    gradient = student.neck[0].grad.ne(0).any(1)
    assert torch.equal(gradient, weighted)
    assert teacher.neck[0].grad is None


def test_equal_weights_are_not_the_whole_map():
    """The sum has two means, of the object's cell and of the three others."""
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
    terms = losses((student, teacher), batch_of([[], []]))
    assert all(term.item() == 0 for term in terms["loss_defeat_object"])
    for level, term in enumerate(terms["loss_defeat_background"]):
        square = (student.neck[level] - teacher.neck[level]).square().mean()
        torch.testing.assert_close(term, 16 / 2 * square / 2)
    total((student, teacher), batch_of([[], []])).backward()
    assert student.neck[0].grad.isfinite().all()


def test_an_object_that_fills_a_map_leaves_no_background():
    student, _ = golden()
    student.neck[0].requires_grad_()
    terms = losses((student, golden()[1]), batch_of([[[0.0, 0.0, 64.0, 64.0]]]))
    assert terms["loss_defeat_object"][0].item() == pytest.approx(4 * 11 / (2 * 4 * 2))
    terms["loss_defeat_background"][0].backward()
    assert terms["loss_defeat_background"][0].item() == 0


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
    expected = torch.randn(3, 4, dtype=torch.double)
    assert torch.autograd.gradcheck(lambda z: mean_divergence(expected, z, 2.0), logits)


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
    teacher = staged([torch.zeros_like(level) for level in student.stages])
    student.stages[2][0, :, 0, 0] = 5.0
    terms = losses((student, teacher), batch_of([[[0, 0, 16, 16]]]), layers, **BACKBONE)
    assert [x.item() for x in terms["loss_defeat_stage_object"]] == [9 / 2 / 2, 25 / 2 / 2]
    assert [x.item() for x in terms["loss_defeat_stage_background"]] == [9 / 2 / 2, 4 / 2 / 2]
    assert len(terms) == 2


def test_backbone_layers_end_in_a_relu_and_match_the_number_of_stages():
    widths = Channels([8] * 5, [4, 8, 16, 32]), Channels([8] * 5, [6, 12, 24, 48])
    layers = DeFeat(**BACKBONE).adapters(*widths)
    assert layers.keys() == {"stage0", "stage1"}
    assert layers["stage1"](torch.randn(1, 32, 3, 3)).shape == (1, 48, 3, 3)
    assert layers["stage0"](torch.randn(1, 16, 9, 9)).min() == 0
    assert len(DeFeat(**BACKBONE, backbone_stages=3).adapters(*widths)) == 3


def test_whole_maps_of_the_backbone_have_one_term():
    """Squares of 9 and 4 on two stages cost 9 / 2 / 2 and 4 / 2 / 2 for any objects."""
    layers = nn.ModuleDict({"stage0": nn.Identity(), "stage1": nn.Identity()})
    student = staged([torch.full((1, 2, n, n), v) for n, v in ((8, 3.0), (4, 2.0))])
    teacher = staged([torch.zeros_like(level) for level in student.stages])
    terms = losses((student, teacher), batch_of([ONE_CELL]), layers, **BACKBONE, backbone="whole")
    assert {name: [x.item() for x in term] for name, term in terms.items()} == {
        "loss_defeat_stage": [2.25, 1]
    }
    only_background = OFF | {"backbone_background_weight": 1}
    assert DeFeat(**only_background).needs.both == {"stages"}
    assert DeFeat(**only_background, backbone="whole").needs.both == set()
