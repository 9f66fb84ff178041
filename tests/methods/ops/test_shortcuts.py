"""Shortcuts and masks equal their plain forms: values, gradients, and rare scenes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kd.methods.features import gid, tadf
from kd.methods.ops.boxes import rois_of, suppress_overlaps
from kd.methods.ops.masks import object_mask, object_masks
from kd.methods.ops.reduction import sums_of_chunks
from kd.methods.ops.spatial_transformer import crops
from kd.methods.predictions import dicod
from kd.methods.predictions.rm import RankMimicking
from kd.observers import Batch, Candidates, observe
from tests.methods.scenes import make_batch
from tests.support import plain_forms

torch.set_num_threads(1)

STRIDES = [8, 16, 32, 64]
SIZES = [(40, 48), (20, 24), (10, 12), (5, 6)]
SCENES: dict[str, list[list[list[float]]]] = {
    "no object": [[], []],
    "an image without": [[[16, 8, 100, 200]], []],
    "one object": [[[30, 40, 190, 280]], [[8, 8, 24, 24]]],
    "smaller than a cell": [[[17, 17, 18.5, 19]], [[0, 0, 0.1, 0.1], [383.9, 319.9, 384, 320]]],
    "beyond the border": [[[-40, -9, 20, 30], [380, 300, 500, 400]], [[400, 330, 420, 350]]],
    "as large as the image": [[[0, 0, 384, 320]], [[0, 0, 384, 320], [5, 5, 60, 60]]],
}


def scene(name: str) -> Batch:
    return batch_of(SCENES[name])


def batch_of(by_image: list[Any]) -> Batch:
    """Return random images of 320 x 384 pixels with boxes (G, 4)."""
    boxes = [torch.as_tensor(rows, dtype=torch.float).reshape(-1, 4) for rows in by_image]
    labels = [torch.arange(len(rows)) % 8 for rows in boxes]
    generator = torch.Generator().manual_seed(0)
    return make_batch(torch.rand(len(boxes), 3, 320, 384, generator=generator), boxes, labels)


def crowd(seed: int, counts: tuple[int, ...] = (70, 0, 25)) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def boxes(count: int) -> Tensor:
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([384, 320])
        side = torch.exp(torch.rand(count, 2, generator=generator) * 6)
        return torch.cat([corner, corner + side], 1)

    return batch_of([boxes(count) for count in counts])


def slopes(value: Tensor, *inputs: Tensor) -> list[Tensor]:
    """Return the gradients of a value by inputs, or zeros if it has none."""
    if not value.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    return list(torch.autograd.grad(value, inputs, retain_graph=True, materialize_grads=True))


EVERY_SCENE = pytest.mark.parametrize(
    "batch", [*map(scene, SCENES), crowd(1)], ids=[*SCENES, "crowd"]
)


# --- Masks ---------------------------------------------------------------------------------


@EVERY_SCENE
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0]], ids=["finest first", "last"])
def test_masks_of_objects_equal_the_plain_form(batch, order):
    levels = [STRIDES[level] for level in order], [SIZES[level] for level in order]
    plain_masks = plain_forms.object_masks(batch, *levels)
    for mask, plain_mask in zip(object_masks(batch, *levels), plain_masks, strict=True):
        assert torch.equal(mask, plain_mask)
    for stride, size in zip(*levels, strict=True):
        assert torch.equal(
            object_mask(batch, stride, size), plain_forms.object_mask(batch, stride, size)
        )


@EVERY_SCENE
@pytest.mark.parametrize("values", [2**22, 1], ids=["at once", "box after box"])
def test_gaussian_masks_equal_the_plain_form(batch, values, monkeypatch):
    monkeypatch.setattr("kd.methods.ops.masks.MOST_WEIGHTS", values)
    student = SimpleNamespace(
        neck=[torch.zeros(len(batch.samples), 1, *size) for size in SIZES], strides=STRIDES
    )
    masks = tadf.TaskAdaptive(sigma_squared=1.7)._masks(student, batch)
    plain_masks = plain_forms.object_masks(batch, STRIDES, SIZES, plain_forms.gaussian(1.7))
    for mask, plain_mask in zip(masks, plain_masks, strict=True):
        torch.testing.assert_close(mask, plain_mask, rtol=1e-6, atol=0)


# --- GID -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("count", "overlap"), [(10, 0.3), (400, 0.5), (3, 0.99), (10, 0.01)])
def test_suppression_equals_torchvisions(seed, count, overlap):
    boxes = torch.cat(crowd(seed, (150, 150)).gt_boxes).unflatten(0, (2, 150))
    boxes[:, ::7] = boxes[:, 3:4]  # equal boxes
    boxes[0, 5, 2:] = boxes[0, 5, :2]  # an empty one
    for eligible in (torch.rand(2, 150) < 0.8, torch.arange(2)[:, None].expand(2, 150) > 0):
        plain_boxes = plain_forms.suppressed(boxes, eligible, overlap, count)
        boxes_left, counts = suppress_overlaps(boxes, eligible, overlap, count)
        for rows, number, plain_rows in zip(boxes_left, counts.tolist(), plain_boxes, strict=True):
            assert torch.equal(rows[:number], plain_rows)


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_pooling_and_distances_equal_those_of_single_regions(count):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 4, *size, generator=generator).requires_grad_() for size in SIZES]
    boxes = crowd(2, (count, count)).gt_boxes
    rois = rois_of(boxes)
    pooled = gid.pool([maps], STRIDES, rois)[0]
    plain_pooled = plain_forms.pool(maps, STRIDES, rois)
    assert torch.equal(pooled, plain_pooled)
    pairs = (gid.relative_distances, pooled), (plain_forms.relative_distances, plain_pooled)
    results = [function(features.flatten(1)) for function, features in pairs]
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)
    pair = [slopes(distances.square().sum(), *maps) for distances in results]
    torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-6)


def test_equal_regions_have_no_gradient_of_their_distance():
    features = torch.ones(3, 5).requires_grad_()
    gid.relative_distances(features).sum().backward()
    assert features.grad.eq(0).all()


# --- DICOD ---------------------------------------------------------------------------------


@EVERY_SCENE
def test_crops_equal_those_of_single_boxes(batch):
    image = torch.cat([torch.full((len(b),), i) for i, b in enumerate(batch.gt_boxes)]).long()
    order = torch.randperm(len(image), generator=torch.Generator().manual_seed(0))
    results = []
    for function in (crops, plain_forms.crops):
        boxes = torch.cat(batch.gt_boxes)[order].requires_grad_()
        crop_values = function(batch.inputs, image[order], boxes, 9)
        results.append((crop_values, *slopes(crop_values.square().sum(), boxes)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-5)


@pytest.fixture
def classifier(quiet_mmdet: None, tmp_path: Any) -> Any:
    from mmdet.registry import MODELS

    from kd.classifiers.teacher import ClassifierTeacher
    from kd.models import weights

    config = {"type": "ObjectClassifier", "architecture": "resnet18", "classes": 8, "size": 33}
    config |= {"loss": "focal", "init": "scratch", "mean": [0.4] * 3, "std": [0.3] * 3}
    torch.manual_seed(0)
    model = MODELS.build(dict(config))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, -0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    weights.save(tmp_path / "weights.pth", {"state_dict": model.state_dict()})
    return ClassifierTeacher(config, tmp_path / "weights.pth")


def predicted(batch: Batch) -> tuple[Any, Tensor]:
    """Return a student with three predicted boxes near each object, and these boxes."""
    image = torch.cat([torch.full((len(b),), i) for i, b in enumerate(batch.gt_boxes)]).long()
    instance = torch.arange(len(image)).repeat(3)
    generator = torch.Generator().manual_seed(1)
    truth = torch.cat(batch.gt_boxes)[instance]
    boxes = (truth + torch.randn(truth.shape, generator=generator) * 3).requires_grad_()
    candidates = Candidates(image.repeat(3), torch.arange(len(boxes)), instance)
    return SimpleNamespace(candidates=candidates, candidate_boxes=lambda c: boxes[c.index]), boxes


@EVERY_SCENE
@pytest.mark.parametrize("stages", [(0,), (0, 1)], ids=str)
def test_distances_of_crops_equal_those_of_one_graph(batch, classifier, stages):
    method = dicod.Dicod(stages=stages, stage_pools=(2,) * len(stages), crop_size=33)
    student, boxes = predicted(batch)
    totals = method._distances(student, classifier, batch, dicod.object_crops(batch, 33))
    plain = plain_forms.PlainClassifier(classifier)
    plain_totals = plain_forms.dicod_distances(method, student, plain, batch)
    for total, plain_total in zip(totals, plain_totals, strict=True):
        torch.testing.assert_close(total, plain_total, rtol=1e-6, atol=1e-6)
        exact, plainly = (slopes(value, boxes)[0] for value in (total, plain_total))
        apart = (exact - plainly).abs() > 1e-5 * plainly.abs().amax((0, 1)) if len(boxes) else exact
        # Rounding turns the sign of an absolute difference that is all but 0.
        assert apart.sum() <= 0.01 * apart.numel()


def test_the_folded_stem_equals_the_networks_layers(classifier):
    objects = torch.randn(3, 3, 33, 33, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain = plain_forms.PlainClassifier(classifier)
    folded, layers = (stem.stages(objects, 1)[0] for stem in (classifier, plain))
    torch.testing.assert_close(folded, layers, rtol=1e-6, atol=1e-6)
    weight = torch.randn(folded.shape, generator=torch.Generator().manual_seed(1))
    pair = [slopes((stem * weight).sum(), objects) for stem in (folded, layers)]
    torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-6)


def test_sums_of_chunks_have_their_values_and_gradients_without_their_graphs():
    boxes, scale = torch.rand(5, 4).requires_grad_(), torch.rand(4).requires_grad_()
    calls = []

    def function(rows: Tensor, boxes: Tensor, scale: Tensor) -> list[Tensor]:
        calls.append(boxes)
        return [boxes[rows].square().sum(), (boxes[rows] * scale).sum()]

    rows = torch.arange(5)
    chunked = sums_of_chunks(function, rows.split(2), [boxes, scale])
    values = function(rows, boxes, scale)
    for total, value in zip(chunked, values, strict=True):
        torch.testing.assert_close(total, value)
        for source in (boxes, scale):
            gradients = [
                torch.autograd.grad(5 * scalar, source, retain_graph=True, materialize_grads=True)
                for scalar in (total, value)
            ]
            torch.testing.assert_close(*gradients)
    assert len(calls) == 4 and calls[0] is not boxes and calls[0].grad is None
    with torch.no_grad():
        (total, _) = sums_of_chunks(function, rows.split(2), [boxes, scale])
    assert not total.requires_grad
    torch.testing.assert_close(total, values[0].detach())


def test_chunks_of_boxes_by_image():
    chunks = dicod.chunks_by_image([3, 0, 4], 2)
    assert [chunk.sizes for chunk in chunks] == [[2, 0, 0], [1, 0, 1], [0, 0, 2], [0, 0, 1]]
    boxes = torch.arange(7)
    assert torch.equal(torch.cat([boxes[chunk.rows] for chunk in chunks]), boxes)
    assert [chunk.sizes for chunk in dicod.chunks_by_image([0, 0], 2)] == [[0, 0]]


def test_sums_of_chunks_leave_sources_without_gradients_alone():
    weight, constant = torch.rand(3).requires_grad_(), torch.rand(3)
    (total,) = sums_of_chunks(
        lambda rows, w, c: [(w * c)[rows].sum()], torch.arange(3).split(1), [weight, constant]
    )
    torch.testing.assert_close(torch.autograd.grad(total, weight)[0], constant)


# --- Ranks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["retinanet", "gfl", "fcos", "ssd300"])
@pytest.mark.parametrize("boxes", [(3, 2), (1, 0), (0, 0)], ids=str)
def test_scores_of_positives_equal_those_of_all_priors(build, batch, family, boxes):
    data = batch(boxes)
    student = observe(build(family), data, frozen=False)
    student.losses()
    image, prior = (student.assignment >= 0).nonzero(as_tuple=True)
    instance = data.gt_offsets[image] + student.assignment[image, prior]
    arguments = student, image, prior, torch.cat(data.gt_labels)[instance]
    method = RankMimicking(score="probability")
    scores, plain_scores = method._class_scores(*arguments), plain_forms.class_scores(*arguments)
    torch.testing.assert_close(scores, plain_scores, rtol=1e-6, atol=0)
    pair = [
        slopes(model_scores.square().sum(), *student.class_maps)
        for model_scores in (scores, plain_scores)
    ]
    torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-8)
