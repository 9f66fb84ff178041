"""Levels of objects follow the detector and its images, and each level has objects."""

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kd.common.errors import UserError
from kd.config import pipelines
from kd.config.compose import detector_model, fitted
from kd.config.library import Library
from kd.config.recipes.mixing import MIXING
from kd.config.terms import settings_of
from kd.data.builtin.shapes import generate
from kd.data.entry import Shapes
from kd.methods import get
from kd.methods.base import Method
from kd.methods.ops.masks import level_of, object_masks
from kd.methods.ops.pyramid import Pyramid, octaves, published_sides
from kd.observers import Batch
from tests.support.paths import BCCD, CONFIGS

LIBRARY = Library(CONFIGS)
DETECTORS = LIBRARY.names("detectors")
OTHERS = ("ssd300", "ssd512", "yolov3", "rtmdet", "yolox")
PYRAMIDS = [name for name in DETECTORS if name not in OTHERS]
"""Detectors whose neck is an FPN, for which the constants were published."""
IMAGES = 150
PUBLISHED = (112.0, 224.0, 448.0, 896.0)


def pyramid(detector: str, scale: str, dataset: str) -> Pyramid:
    scale_parts, entry = LIBRARY.scale(scale, "test"), LIBRARY.detector(detector, "test")
    name = scale_parts.datasets.get(dataset, dataset)
    model = detector_model(detector, "r18", 8, "scratch", scale_parts, LIBRARY, "test")
    side = scale_parts.input_sizes.get(detector, entry.input_size)
    size = (side, side) if side else LIBRARY.dataset(name, "test").image_size
    detector_pyramid = Pyramid.of(model, size)
    assert detector_pyramid is not None
    return detector_pyramid


# --- The published constants --------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["coco2017", "coco2017-person", "voc0712"])
@pytest.mark.parametrize("detector", PYRAMIDS)
def test_at_the_scale_of_the_papers_the_sides_are_the_published_ones(
    detector: str, dataset: str
) -> None:
    levels = pyramid(detector, "paper", dataset)
    finest = levels.strides[0]
    assert levels.sides("scaled") == levels.sides("published") == PUBLISHED
    pooled = tuple(28.0 * finest * 2**level for level in range(4))
    assert levels.sides("scaled", per_stride=True) == pooled


def test_levels_are_those_of_published_code() -> None:
    """DeFeat's level is floor(log2(sqrt(w h) / 56 + 1e-6)) with a pixel added, from 0 to 4."""
    torch.manual_seed(0)
    exact = torch.tensor([[0.0, 0, side - 1, side - 1] for side in (55, 56, 111, 112, 447, 448)])
    corner, extent = torch.rand(2, 2000, 2)
    random_boxes = torch.cat([300 * corner, 300 * corner + 2000 * extent**3], 1)
    boxes = torch.cat([exact, random_boxes])
    width, height = (boxes[:, 2:] - boxes[:, :2] + 1).unbind(1)
    published = (torch.log2((width * height).sqrt() / 56 + 1e-6)).floor().clamp(0, 4)
    assert published.unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(level_of(boxes, 5), published.long())
    assert torch.equal(level_of(boxes, 3), published.long().clamp(max=2))


PRESETS = ["defeat_voc", "defeat_up", "fgfi_defeat", "gid_rewrite"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_of_published_code_has_the_published_sides_at_every_scale(name: str) -> None:
    settings = settings_of(name, {}, False, LIBRARY, "test")
    model = {"bbox_head": {"anchor_generator": {"strides": [4, 8, 16, 32, 64]}}}
    (resolved,) = fitted({name: settings}, model, (128, 128), "test").values()
    assert tuple(resolved["level_sides"]) == PUBLISHED


# --- Smaller images -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "lower"),
    [
        ((1333, 800), 0),
        ((1000, 600), 0),
        ((2000, 1600), 0),
        ((512, 512), -1),
        ((256, 192), -2),
        ((128, 128), -3),
    ],
)
def test_sides_move_by_whole_octaves_with_the_shorter_side(
    size: tuple[int, int], lower: int
) -> None:
    assert octaves(size) == lower
    assert Pyramid((8, 16, 32), size).sides("scaled") == (112 * 2.0**lower, 224 * 2.0**lower)


def test_the_coarsest_level_begins_within_the_image() -> None:
    """Two octaves lower, the level of stride 64 would begin at 224 px in an image of 192 px."""
    levels = Pyramid((8, 16, 32, 64), (256, 192))
    assert levels.sides("published", per_stride=True) == (224, 448, 896)
    assert levels.sides("scaled", per_stride=True) == (28, 56, 112)


def test_sides_in_the_settings_stay() -> None:
    assert Pyramid((8, 16, 32), (128, 128)).sides((20.0, 50.0)) == (20, 50)


def test_one_level_takes_every_box() -> None:
    assert Pyramid((16,), (128, 128)).sides("scaled") == ()
    assert level_of(torch.tensor([[0.0, 0, 500, 500]]), 1, ()).tolist() == [0]


def test_a_head_without_strides_is_refused_where_levels_are_assigned() -> None:
    terms = {"defeat": settings_of("defeat", {}, False, LIBRARY, "test")}
    with pytest.raises(UserError, match="test: term 'defeat': key 'level_sides' must be a list"):
        fitted(terms, {"bbox_head": {}}, (128, 128), "test")
    with_sides = settings_of("defeat", {"level_sides": [20, 50]}, False, LIBRARY, "test")
    assert fitted({"defeat": with_sides}, {"bbox_head": {}}, (128, 128), "test") == {
        "defeat": with_sides
    }
    whole = {"fitnets": settings_of("fitnets", {}, False, LIBRARY, "test")}
    assert fitted(whole, {"bbox_head": {}}, (128, 128), "test") == whole


# --- Objects on each level ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shapes")
    generate(Shapes(train=IMAGES, test=1, size=128), root)
    return {"shapes-smoke": root, "shapes-mini": root, "bccd": BCCD}


@cache
def augmented(root: Path, dataset: str, family: Any) -> list[torch.Tensor]:
    """Return the boxes (G, 4) of training images of 100 px after their augmentation, by image."""
    from mmdet.registry import DATASETS
    from mmengine.registry import DefaultScope

    from kd.config.compose import classes_of, split_config

    DefaultScope.get_instance("pyramid", scope_name="mmdet")
    entry = LIBRARY.dataset(dataset, "test").model_copy(update={"root": str(root)})
    steps = pipelines.training(family, (100, 100), [124.0, 116.0, 104.0])
    steps = [step for step in steps if step["type"] != "PhotoMetricDistortion"]
    split = DATASETS.build(split_config(entry, "train", classes_of(dataset, entry), steps))
    torch.manual_seed(0)
    np.random.seed(0)
    samples = (split[index]["data_samples"] for index in range(len(split)))
    return [sample.gt_instances.bboxes.tensor for sample in samples]


def boxes(root: Path, dataset: str, family: str, size: tuple[int, int]) -> list[torch.Tensor]:
    """Return the boxes (G, 4) of augmented training images that are fitted into a size."""
    width, height = size
    factor = torch.tensor([width, height, width, height]) / 100
    if family != "ssd":  # its images keep their ratio; those of BCCD are 4 to 3
        factor = torch.tensor(width / 100)
    return [image_boxes * factor for image_boxes in augmented(root, dataset, family)]


def cases() -> Iterator[Any]:
    for scale, dataset in (("smoke", "coco2017"), ("mini", "coco2017"), ("laptop", "bccd")):
        for detector in DETECTORS:
            yield pytest.param(scale, dataset, detector, id=f"{scale}-{detector}")


@pytest.mark.parametrize(("scale", "dataset", "detector"), cases())
def test_every_level_has_objects(
    quiet_mmdet: None, folders: dict[str, Path], scale: str, dataset: str, detector: str
) -> None:
    name = LIBRARY.scale(scale, "test").datasets.get(dataset, dataset)
    if not folders[name].is_dir():
        pytest.skip(f"no BCCD data at {folders[name]}")
    detector_pyramid = pyramid(detector, scale, dataset)
    family = LIBRARY.detector(detector, "").augmentation
    resized = [1]
    if family in MIXING:
        # The last epochs of these trainings mix no images, and enlarge them up to twice.
        family, resized = "general", [1, 2]
    source = "bccd" if name == "bccd" else "shapes-smoke"  # mini begins with the images of smoke
    size = detector_pyramid.image_size
    image_boxes = [
        factor * image for factor in resized for image in boxes(folders[name], source, family, size)
    ]
    levels = len(detector_pyramid.strides)
    for pooled in (False, True):
        sides = detector_pyramid.sides("scaled", per_stride=pooled)
        counts = level_of(torch.cat(image_boxes), levels, sides).bincount(minlength=levels)
        assert counts.min() > 0, (sides, counts.tolist())
    masks = object_masks(
        batch(image_boxes),
        [*detector_pyramid.strides],
        cells(detector_pyramid),
        sides=detector_pyramid.sides("scaled"),
    )
    assert all(mask.any() for mask in masks)


def cells(detector_pyramid: Pyramid) -> list[tuple[int, int]]:
    width, height = detector_pyramid.image_size
    return [
        (math.ceil(height / stride), math.ceil(width / stride))
        for stride in detector_pyramid.strides
    ]


def batch(image_boxes: list[torch.Tensor]) -> Batch:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = [
        DetDataSample(gt_instances=InstanceData(bboxes=boxes_of_image))
        for boxes_of_image in image_boxes
    ]
    return Batch(torch.empty(len(image_boxes), 3, 1, 1), samples)


@pytest.mark.parametrize("dataset", ["coco2017", "voc0712"])
@pytest.mark.parametrize("scale", ["paper", "laptop"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_an_object_of_the_size_of_its_image_reaches_the_coarsest_level(
    detector: str, scale: str, dataset: str
) -> None:
    """Objects of the size of an image replace COCO and Pascal VOC, which have such objects.

    An FPN of five levels is the exception on VOC: the published constant was used there, and its
    coarsest level begins at 896 px, beyond the 775 px of an image of 1000 x 600.
    """
    detector_pyramid = pyramid(detector, scale, dataset)
    sides = detector_pyramid.sides("scaled")
    assert list(sides) == sorted(set(sides))
    largest = math.sqrt(detector_pyramid.image_size[0] * detector_pyramid.image_size[1])
    exception = dataset == "voc0712" and scale == "paper" and detector in PYRAMIDS
    assert (sides[-1] > largest) == exception


@pytest.mark.parametrize("name", ["defeat", "tadf", "fitnets", "fgfi", "gid"])
def test_a_composed_term_states_its_sides(name: str) -> None:
    changes: dict[str, Any] = {"fitnets": {"region": "object"}, "fgfi": {"match": "assigned"}}
    terms = {name: settings_of(name, changes.get(name, {}), False, LIBRARY, "test")}
    model = {"bbox_head": {"anchor_generator": {"strides": [8, 16, 32]}}}
    (resolved,) = fitted(terms, model, (128, 128), "test").values()
    method: type[Method] = get(name)
    assert resolved["level_sides"] == ([28, 56] if method.sides_per_stride else [14, 28])


@pytest.mark.parametrize(
    ("size", "least"), [((1333, 800), 10), ((1000, 600), 10), ((256, 192), 2.5), ((128, 128), 1.25)]
)
def test_the_smallest_region_follows_the_images(size: tuple[int, int], least: float) -> None:
    model = {"bbox_head": {"anchor_generator": {"strides": [8, 16, 32]}}}
    for name, expected in (("gid", least), ("gid_rewrite", 10)):
        terms = {name: settings_of(name, {}, False, LIBRARY, "test")}
        (resolved,) = fitted(terms, model, size, "test").values()
        assert resolved["least_side"] == expected


def test_published_sides_double() -> None:
    assert published_sides(5) == PUBLISHED
