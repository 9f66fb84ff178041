"""MGD: a value worked out by hand, random masks as functions of seed, step and image, levels."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import kd.models.mmdet_setup  # noqa: F401
from kd.data.sampling import mix, seed_everything
from kd.methods.features.mgd import MaskedGeneration
from kd.methods.ops.pyramid import Pyramid
from kd.methods.ops.random_masks import random_masks
from kd.observers import Batch, Channels
from tests.methods.scenes import SIZES, batch_of, maps, view

torch.set_num_threads(1)
IDENTITY = nn.ModuleDict({f"generator{level}": nn.Identity() for level in range(2)})
TEXT_IDS = ["000005", "000007"]


def with_ids(batch: Batch, *ids: Any) -> Batch:
    """Return the batch with ids of its images."""
    for sample, image in zip(batch.samples, ids, strict=True):
        sample.img_id = image
    return batch


def test_a_value_worked_out_by_hand():
    """Cells (1, 2) and (3, 4) of two channels; the second is masked, so its teacher remains."""
    student = torch.tensor([[1.0, 3.0], [2.0, 4.0]])[None, :, None]
    teacher = torch.tensor([[2.0, 5.0], [0.0, 1.0]])[None, :, None]
    views = [SimpleNamespace(neck=[neck], strides=[8]) for neck in (student, teacher)]
    mask = [torch.tensor([[[1.0, 0.0]]])]
    (loss,) = MaskedGeneration(weight=0.1).generated(*views, mask, IDENTITY)["loss_mgd"]
    # (1 - 2)^2 + (2 - 0)^2 + 5^2 + 1^2
    assert loss.item() == pytest.approx(0.1 * 31)


def test_the_term_is_the_mean_over_images():
    student, teacher = view(maps(0)), view(maps(1))
    whole = [torch.ones(2, *size) for size in SIZES]
    both = MaskedGeneration().generated(student, teacher, whole, IDENTITY)["loss_mgd"]
    alone = []
    for image in range(2):
        views = [view([level[[image]] for level in m.neck]) for m in (student, teacher)]
        masks = [mask[[image]] for mask in whole]
        alone.append(MaskedGeneration().generated(*views, masks, IDENTITY)["loss_mgd"])
    for level in range(2):
        mean = (alone[0][level] + alone[1][level]) / 2
        assert both[level].item() == pytest.approx(mean.item(), rel=1e-5)


def test_gradients_agree_with_finite_differences():
    torch.manual_seed(0)
    widths = Channels([3, 3], [], (8, 16)), Channels([2, 2], [], (8, 16))
    layers = nn.ModuleDict(MaskedGeneration().adapters(*widths)).double()
    generator = torch.Generator().manual_seed(3)
    neck = [torch.randn(1, 3, *size, generator=generator).double() for size in [(3, 4), (2, 2)]]
    teacher = [torch.randn(1, 2, *size, generator=generator).double() for size in [(3, 4), (2, 2)]]
    masks = [(torch.rand(1, *m.shape[2:], generator=generator) > 0.5).double() for m in neck]

    def loss(*student: Tensor) -> Tensor:
        views = view([*student], gradients=True), view(teacher)
        terms = MaskedGeneration(weight=1).generated(*views, masks, layers)["loss_mgd"]
        return torch.stack(list(terms)).sum()

    assert torch.autograd.gradcheck(loss, [level.requires_grad_() for level in neck])


@pytest.mark.parametrize("share", [0.0, 0.45, 0.65])
def test_masks_hide_their_share_of_cells_in_every_image(share):
    masks = random_masks(batch_of([], [], []), [(100, 150), (50, 75)], share)
    assert [tuple(mask.shape) for mask in masks] == [(3, 100, 150), (3, 50, 75)]
    for mask in masks:
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert (1 - mask.mean((1, 2))).tolist() == pytest.approx([share] * 3, abs=0.03)


@pytest.mark.parametrize("ids", [[7, 9], TEXT_IDS], ids=["numbers", "names"])
def test_masks_depend_on_seed_step_and_image_and_not_on_the_batch(ids):
    def masks(seed: int, step: int, *images: Any) -> list[Tensor]:
        seed_everything(mix(seed, 1 + step))
        torch.rand(seed + step)  # draws of the step before the masks do not matter
        return random_masks(with_ids(batch_of(*([] for _ in images)), *images), SIZES, 0.5)

    both = masks(0, 0, *ids)
    (alone,) = {tuple(mask.flatten().tolist()) for mask in masks(0, 0, ids[1])[:1]}
    assert tuple(both[0][1].flatten().tolist()) == alone
    for other in (masks(1, 0, *ids), masks(0, 1, *ids), masks(0, 0, *reversed(ids))):
        assert not torch.equal(other[0][0], both[0][0])
    assert not torch.equal(both[0][0], both[0][1])


def test_masks_leave_the_other_draws_of_a_step_alone():
    seed_everything(3)
    expected = torch.rand(5)
    seed_everything(3)
    random_masks(batch_of([], []), SIZES, 0.5)
    assert torch.equal(torch.rand(5), expected)


def test_two_stage_detectors_compare_the_levels_with_a_convolution():
    settings = MaskedGeneration.defaults(two_stage=True)
    assert settings == {"weight": 5e-7, "masked_share": 0.45, "levels": 4}
    widths = Channels([4] * 5, [], (4, 8, 16, 32, 64))
    layers = MaskedGeneration(**settings).adapters(widths, widths)
    assert [*layers] == [f"generator{level}" for level in range(4)]


def test_levels_of_equal_stride_are_compared():
    """A Faster R-CNN (strides 4 to 64) teaches a RetinaNet (8 to 128) its strides 8 to 64."""
    student = Channels([4] * 5, [], (8, 16, 32, 64, 128))
    teacher = Channels([6] * 5, [], (4, 8, 16, 32, 64))
    layers = MaskedGeneration().adapters(student, teacher)
    assert {name for name in layers if "align" in name} == {f"align{level}" for level in range(4)}
    sizes = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    views = [
        SimpleNamespace(
            neck=[torch.randn(1, width, 64 // stride * 2, 64 // stride * 2) for stride in strides],
            strides=[*strides],
        )
        for width, strides in ((4, student.strides), (6, teacher.strides))
    ]
    masks = [torch.ones(1, *size) for size in sizes]
    assert len(MaskedGeneration().generated(*views, masks, nn.ModuleDict(layers))["loss_mgd"]) == 4


@pytest.mark.parametrize(
    ("size", "factor"),
    [((1333, 800), 1.0), ((1000, 600), 1.0), ((256, 192), 16.0), ((128, 128), 64.0)],
)
def test_sums_over_cells_are_scaled_to_the_image_size(size, factor):
    pyramid = Pyramid((8, 16), size)
    assert MaskedGeneration(cell_factor="scaled").fitted(pyramid).cell_factor == factor
    assert MaskedGeneration().fitted(pyramid).cell_factor == 1.0
    assert MaskedGeneration(cell_factor=2.5).fitted(pyramid).cell_factor == 2.5
