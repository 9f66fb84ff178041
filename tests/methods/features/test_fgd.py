"""FGD: values worked out by hand, masks of boxes, rare scenes, and properties of the terms."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.methods.features.fgd import FocalGlobal, Scene, attentions, scale_masks
from kd.methods.ops.context_block import GlobalContextBlock
from kd.methods.ops.pyramid import Pyramid
from kd.observers import Channels
from tests.methods.scenes import batch_of, levels_of, make_batch, maps, view
from tests.methods.scenes import total as total_of

torch.set_num_threads(1)
SCENES: dict[str, list[list[list[float]]]] = {
    "no object": [[], []],
    "an image without": [[], [[8, 8, 40, 40]]],
    "one object": [[[8, 8, 40, 40]], []],
    "smaller than a cell": [[[9.2, 9.2, 9.9, 9.9]], [[1, 1, 2, 2]]],
    "without area": [[[10, 10, 10, 10]], [[95, 63, 96, 64]]],
    "the whole image": [[[0, 0, 96, 64]], [[0, 0, 96, 64]]],
}


def layers(method: FocalGlobal, width: int = 5, teacher_width: int = 5) -> nn.ModuleDict:
    torch.manual_seed(0)
    channels = (Channels([w] * 2, [], (8, 16)) for w in (width, teacher_width))
    return nn.ModuleDict(method.adapters(*channels))


def losses(batch: Any, student: Any = None, **settings: Any) -> dict[str, Any]:
    method = FocalGlobal(**settings)
    views = student or view(maps(0), gradients=True), view(maps(1))
    return method.losses(*views, batch, layers(method))


def masks(boxes: list[list[float]], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the weights of cells for boxes in fractions of the map, of one image."""
    rows = torch.tensor(boxes).reshape(1, -1, 4)
    return scale_masks(Scene(rows, torch.ones(rows.shape[:2], dtype=torch.bool)), size)


# --- Values by hand ------------------------------------------------------------------------


def test_attentions_by_hand():
    """Two channels and two cells; means of magnitudes are (1.5, 0.5) by cell and by channel."""
    feature = torch.tensor([[2.0, -1.0], [-1.0, 0.0]])[None, :, None]
    spatial, channel = attentions(feature, temperature=0.5)
    # 2 softmax((3, 1)) over cells, 2 softmax((3, 1)) over channels.
    first = 2 / (1 + math.exp(-2))
    assert spatial.flatten().tolist() == pytest.approx([first, 2 - first])
    assert channel.flatten().tolist() == pytest.approx([first, 2 - first])


def test_terms_by_hand():
    """One cell, one channel: both attentions are 1, and a new global block adds nothing."""
    student, teacher = view([torch.full((1, 1, 1, 1), 5.0)]), view([torch.full((1, 1, 1, 1), 2.0)])
    settings = {"foreground_weight": 2, "background_weight": 3, "global_weight": 7}
    method = FocalGlobal(**settings)
    widths = Channels([1], [], (8,))
    adapters = nn.ModuleDict(method.adapters(widths, widths))
    for view_of in (student, teacher):
        view_of.strides = [8]
    objects = method.losses(student, teacher, batch_of([[0, 0, 96, 64]]), adapters)
    none = method.losses(student, teacher, batch_of([]), adapters)
    values = [
        {name.removeprefix("loss_fgd_"): term[0].item() for name, term in terms.items()}
        for terms in (objects, none)
    ]
    # The box has a right and a bottom neighbor beyond the border, so its cell counts 1 / 4.
    assert values[0] == {"foreground": 2 * 9 / 4, "background": 0, "attention": 0, "global": 63}
    assert values[1] == {"foreground": 0, "background": 27, "attention": 0, "global": 63}


def test_cells_of_a_box_by_hand():
    foreground, background = masks([[0.25, 0.0, 0.5, 0.2]], (2, 4))
    # Columns 1 to 2 and rows 0 to 1: four cells; the other four share the background.
    assert foreground[0].tolist() == [[0, 0.25, 0.25, 0], [0, 0.25, 0.25, 0]]
    assert background[0].tolist() == [[0.25, 0, 0, 0.25], [0.25, 0, 0, 0.25]]


def test_the_smallest_of_overlapping_boxes_counts():
    whole, small = [0.0, 0.0, 0.99, 0.99], [0.5, 0.5, 0.6, 0.6]
    foreground, background = masks([whole, small], (8, 8))
    reversed_foreground, _ = masks([small, whole], (8, 8))
    assert torch.equal(foreground, reversed_foreground)
    assert foreground[0, 4, 4].item() == pytest.approx(1 / 4)
    assert foreground[0, 0, 0].item() == pytest.approx(1 / 81)  # nine cells a side, one outside
    assert background.sum() == 0


def test_the_background_of_an_image_without_boxes_is_all_of_it():
    foreground, background = masks([], (4, 6))
    assert not foreground.any()
    assert background.unique().tolist() == pytest.approx([1 / 24])


# --- Boxes in padded batches ---------------------------------------------------------------


@pytest.mark.parametrize(("extent", "column"), [("input", 4), ("image", 8)])
def test_a_box_in_a_padded_image_is_at_its_cells_or_displaced_as_in_the_code(extent, column):
    """The image is half as wide as the input; its box begins at a third of the input."""
    box = torch.tensor([[32.0, 16, 40, 24]])
    batch = make_batch(torch.zeros(1, 3, 64, 96), [box], [torch.zeros(1).long()], [(64, 48)])
    scene = FocalGlobal(extent=extent)._scene(batch)
    foreground, _ = scale_masks(scene, (8, 12))
    assert foreground[0].any(0).nonzero()[0].item() == column


# --- Scenes --------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", SCENES)
def test_rare_scenes_are_finite_and_reach_every_layer(scene):
    method = FocalGlobal()
    student, adapters = view(maps(0), gradients=True), layers(method)
    terms = method.losses(student, view(maps(1)), batch_of(*SCENES[scene]), adapters)
    total_of(terms).backward()
    gradients = [level.grad for level in student.neck] + [p.grad for p in adapters.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("scene", ["no object", "the whole image"])
def test_scenes_of_one_region_have_no_other_term(scene):
    terms = losses(batch_of(*SCENES[scene]))
    empty = "foreground" if scene == "no object" else "background"
    assert total_of({"": terms[f"loss_fgd_{empty}"]}) == 0
    others = {name: term for name, term in terms.items() if not name.endswith(empty)}
    assert all(total_of({"": term}) > 0 for term in others.values())


def test_the_terms_are_means_over_images():
    boxes = [[[8, 8, 40, 40]], [[0, 0, 60, 30], [50, 30, 90, 60]]]
    both, parts = losses(batch_of(*boxes)), []
    for image in range(2):
        student, teacher = ([level[[image]] for level in maps(seed)] for seed in (0, 1))
        method = FocalGlobal()
        views = view(student), view(teacher)
        parts.append(method.losses(*views, batch_of(boxes[image]), layers(method)))
    for name, term in both.items():
        for level, value in enumerate(levels_of(term)):
            mean = (parts[0][name][level] + parts[1][name][level]) / 2
            assert value.item() == pytest.approx(mean.item(), rel=1e-5)


# --- Properties ----------------------------------------------------------------------------


def test_equal_maps_have_no_loss_with_new_layers():
    batch = batch_of([[8, 8, 40, 40]], [])
    assert total_of(losses(batch, view(maps(1)))) == 0


def test_a_weight_of_zero_leaves_out_its_term_and_its_layers():
    off = {f"{name}_weight": 0 for name in ("foreground", "background", "attention", "global")}
    batch = batch_of([[8, 8, 40, 40]], [])
    for name in ("foreground", "background", "attention", "global"):
        settings = {**off, f"{name}_weight": 1}
        assert [*losses(batch, **settings)] == [f"loss_fgd_{name}"]
        assert bool(layers(FocalGlobal(**settings))) == (name == "global")


def test_gradients_agree_with_finite_differences():
    settings = {f"{name}_weight": 1 for name in ("foreground", "background", "attention", "global")}
    method, batch = FocalGlobal(**settings), batch_of([[8, 8, 40, 40]])
    adapters = layers(method, width=2, teacher_width=3).double()
    for parameter in adapters.parameters():
        nn.init.normal_(parameter, 0.1, 0.3)
    sizes = [(2, 3), (1, 2)]
    generator = torch.Generator().manual_seed(5)
    student_maps, teacher = (
        [torch.randn(1, width, *size, generator=generator).double() for size in sizes]
        for width in (2, 3)
    )

    def loss(*neck: Tensor) -> Tensor:
        student = view([*neck], gradients=True)
        return total_of(method.losses(student, view(teacher), batch, adapters))

    assert torch.autograd.gradcheck(loss, [level.requires_grad_() for level in student_maps])


def test_levels_alike_keeps_the_sum_of_factors_over_cells():
    """Level 0 has four times the cells of level 1: factors 5/8 and 5/2."""
    batch = batch_of([[8, 8, 40, 40]], [])
    published, alike = (losses(batch, levels_alike=on)["loss_fgd_global"] for on in (False, True))
    ratios = [(a / b).item() for a, b in zip(alike, published, strict=True)]
    assert ratios == pytest.approx([5 / 8, 5 / 2])


@pytest.mark.parametrize(("size", "factor"), [((1333, 800), 1.0), ((128, 128), 64.0)])
def test_sums_over_cells_are_scaled_to_the_image_size(size, factor):
    scaled = FocalGlobal(cell_factor="scaled").fitted(Pyramid((8, 16), size))
    assert scaled.cell_factor == factor


def test_two_stage_detectors_have_their_published_settings():
    settings = FocalGlobal.defaults(two_stage=True)
    weights = [
        settings[f"{name}_weight"] for name in ("foreground", "background", "attention", "global")
    ]
    assert weights == [5e-5, 2.5e-5, 5e-5, 5e-7] and settings["levels"] == 4
    assert FocalGlobal.defaults(two_stage=False) == {}


def test_a_new_global_block_returns_its_input_and_then_adds_one_vector():
    torch.manual_seed(0)
    block, features = GlobalContextBlock(4), torch.randn(2, 4, 3, 5)
    assert torch.equal(block(features), features)
    nn.init.normal_(block.transform[3].weight)
    added = block(features) - features
    assert added.flatten(2).std(2).max() < 1e-6 and added.abs().max() > 0.1
