"""Time each shortcut of the terms and its plain form in turn, forward and backward.

python benchmarks/shortcuts.py                     two minutes on two idle cores

A ratio is the plain form's time over the shortcut's, in one process; the tests check that both
compute the same. Detectors are RetinaNet R18 or R50, of full width with random weights, on two
images of 256 x 256 pixels. The plain forms are those of tests/support/plain_forms.py.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch import Tensor
from torchvision.models import resnet18

import kd.runtime  # noqa: F401
from benchmarks.report import Line, arguments, parse, publish
from kd.classifiers.teacher import ClassifierTeacher
from kd.common.timing import in_turn, quartiles, ratio
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.methods.features import gid, tadf
from kd.methods.ops.boxes import suppress_overlaps
from kd.methods.predictions import dicod
from kd.methods.predictions.rm import RankMimicking
from kd.models import roi_align
from kd.models.build import build_model
from kd.observers import Batch, Candidates, observe
from tests.support import plain_forms

SIDE, IMAGES, OBJECTS, CLASSES, CROP = 256, 2, 20, 80, 64
STRIDES = [8, 16, 32, 64, 128]
SIZES = [(SIDE // stride, SIDE // stride) for stride in STRIDES]


class Shortcut(NamedTuple):
    """Name of a computation, the expected speed-up, and its plain and its short form."""

    name: str
    expected: str
    plain: Callable[[], Any]
    shortcut: Callable[[], Any]


def main() -> None:
    """Time all shortcuts and publish the table."""
    options = parse(arguments(__doc__), rounds=1)
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = random_batch(device)
    lines, notes = [], []
    every = [*heads(batch), *masks(batch), *regions(device), *pooled(device), *crops(batch)]
    for shortcut in [*every, *ranks(batch)]:
        times = in_turn({"plain": shortcut.plain, "short": shortcut.shortcut}, options.rounds)
        details = {
            f"{name} ms": 1000 * quartiles(seconds).median for name, seconds in times.items()
        }
        value = ratio(times["plain"], times["short"])
        lines.append(Line(shortcut.name, value, details=details))
        notes.append(f"{shortcut.name}: expected {shortcut.expected}.")
    about = (
        f"Plain form's time over the shortcut's: {IMAGES} images of {SIDE} x {SIDE} pixels with "
        f"{OBJECTS} objects each, {CLASSES} classes, on {device}, {options.rounds} rounds."
    )
    print(publish(options.name or "shortcuts", about, lines, options.before, notes))


def random_batch(device: str) -> Batch:
    """Return images of noise with objects."""
    samples = []
    for _ in range(IMAGES):
        corner = torch.rand(OBJECTS, 2) * SIDE * 0.7
        boxes = torch.cat([corner, corner + 8 + torch.rand(OBJECTS, 2) * SIDE * 0.3], 1)
        labels = torch.randint(0, CLASSES, (OBJECTS,))
        truth = SimpleNamespace(bboxes=boxes.to(device), labels=labels.to(device))
        samples.append(SimpleNamespace(gt_instances=truth, metainfo={}))
    return Batch(torch.randn(IMAGES, 3, SIDE, SIDE, device=device), samples)


def detector(family: str, backbone: str, device: Any) -> Any:
    """Return a frozen detector of full width with random weights, in eval mode."""
    config = detector_model(
        family, backbone, CLASSES, "scratch", Scale(title="full"), Library(), "benchmark"
    )
    built = build_model(config)
    return built.to(device).eval().requires_grad_(False)


def heads(batch: Batch) -> list[Shortcut]:
    """Return the teacher's class maps, with and without the branch of boxes."""
    shortcuts = []
    for family in ("retinanet", "gfl"):
        teacher = detector(family, "r50", batch.inputs.device)
        neck = observe(teacher, batch, frozen=True).neck

        def read(name: str, teacher: Any = teacher, neck: list[Tensor] = neck) -> Any:
            observation = observe(teacher, batch, frozen=True)
            observation.neck = neck
            return getattr(observation, name)

        shortcuts.append(
            Shortcut(
                f"class maps of a teacher's head, {family}",
                "almost 2: one of two branches of equal depth",
                partial(read, "outputs"),
                partial(read, "class_outputs"),
            )
        )
    return shortcuts


def masks(batch: Batch) -> list[Shortcut]:
    """Return TADF's Gaussian masks by level."""
    sizes = [torch.zeros(IMAGES, 1, *size, device=batch.inputs.device) for size in SIZES]
    student = SimpleNamespace(neck=sizes, strides=STRIDES)
    on_host = Batch(batch.inputs.cpu(), batch.samples)
    return [
        Shortcut(
            "Gaussian masks by level",
            "10: a few operators a level in place of a few for each box",
            lambda: plain_forms.object_masks(on_host, STRIDES, SIZES, plain_forms.gaussian(2.0)),
            lambda: tadf.TaskAdaptive()._masks(student, batch),
        )
    ]


def regions(device: str) -> list[Shortcut]:
    """Return GID's suppression and its distances between regions, with their gradients."""
    corner = torch.rand(IMAGES, gid.NMS_CANDIDATES, 2, device=device) * SIDE
    boxes = torch.cat([corner, corner + 10 + 60 * torch.rand_like(corner)], 2)
    eligible = torch.ones(boxes.shape[:2], dtype=torch.bool, device=device)
    features = torch.randn(10, 256 * gid.POOLED_CELLS**2, device=device).requires_grad_()

    def gradient(function: Callable[[Tensor], Tensor]) -> Any:
        return torch.autograd.grad(function(features).square().sum(), features)

    return [
        Shortcut(
            "suppression of 3000 boxes to 10",
            "5: ten rows of overlaps in place of all",
            lambda: plain_forms.suppressed(boxes, eligible, 0.3, 10),
            lambda: suppress_overlaps(boxes, eligible, 0.3, 10),
        ),
        Shortcut(
            "distances of 10 regions",
            "3: differences of pairs are not kept",
            lambda: gradient(plain_forms.relative_distances),
            lambda: gradient(gid.relative_distances),
        ),
    ]


def pooled(device: str) -> list[Shortcut]:
    """Return RoIAlign's gradient, whose shortcut is used on CPUs alone."""
    if device != "cpu":
        return []
    size, stride, align = (7, 7), 8, (0, True)
    shape = torch.Size((IMAGES, 64, SIDE // stride, SIDE // stride))
    image = torch.arange(500)[:, None] % IMAGES
    corner = torch.rand(500, 2) * SIDE * 0.9
    rois = torch.cat([image, corner, corner + 8 + 48 * torch.rand(500, 2)], 1)
    gradient = torch.randn(500, shape[1], *size)
    kernel = torch.ops.torchvision._roi_align_backward
    return [
        Shortcut(
            "gradient of RoIAlign at 500 regions",
            "5: products of matrices in place of scattered samples",
            lambda: kernel(gradient, rois, 1 / stride, *size, *shape, *align),
            lambda: roi_align.spread(gradient, rois, shape, 1 / stride, *align),
        )
    ]


def crops(batch: Batch) -> list[Shortcut]:
    """Return DICOD's distances of 240 boxes, with their gradients."""
    device = batch.inputs.device
    teacher = classifier().to(device)
    plain, term = plain_forms.PlainClassifier(classifier().to(device)), dicod.Dicod()
    plain.teacher.network.to(memory_format=torch.contiguous_format)
    instance = torch.arange(IMAGES * OBJECTS, device=device).repeat(6)
    truth = torch.cat(batch.gt_boxes)[instance]
    boxes = (truth + 5 * torch.randn_like(truth)).requires_grad_()
    index = torch.arange(len(boxes), device=device)
    candidates = Candidates(instance // OBJECTS, index, instance)
    student = SimpleNamespace(candidates=candidates, candidate_boxes=lambda c: boxes[c.index])

    def gradient(totals: list[Tensor]) -> Any:
        return torch.autograd.grad(torch.stack(totals).sum(), boxes)

    def shortcut() -> Any:
        objects = dicod.object_crops(batch, CROP)
        return gradient(term._distances(student, teacher, batch, objects))

    return [
        Shortcut(
            "DICOD's distances of 240 crops",
            "2: pooling and normalization take as long as the convolution, which stays",
            lambda: gradient(plain_forms.dicod_distances(term, student, plain, batch)),
            shortcut,
        )
    ]


def classifier() -> ClassifierTeacher:
    """Return a classifier teacher of random weights."""
    import tempfile
    from pathlib import Path

    from kd.models import weights

    config = {"type": "ObjectClassifier", "architecture": "resnet18", "classes": CLASSES}
    config |= {"size": CROP, "loss": "focal", "init": "scratch"}
    config |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    torch.manual_seed(0)
    state = {
        f"network.{key}": tensor
        for key, tensor in resnet18(num_classes=CLASSES).state_dict().items()
    }
    with tempfile.TemporaryDirectory() as folder:
        weights.save(Path(folder) / "weights.pth", {"state_dict": state})
        return ClassifierTeacher(config, Path(folder) / "weights.pth")


def ranks(batch: Batch) -> list[Shortcut]:
    """Return RM's scores of positives, with their gradients at the class maps."""
    device = batch.inputs.device
    student = detector("retinanet", "r18", device).requires_grad_(True)
    maps = [level.detach() for level in observe(student, batch, frozen=True).class_maps]
    positive = torch.arange(400, device=device)
    label = positive % CLASSES

    def scores(function: Callable[..., Tensor]) -> Any:
        observation = observe(student, batch, frozen=False)
        observation.class_maps = [level.requires_grad_() for level in maps]
        class_scores = function(observation, positive % IMAGES, positive * 7, label)
        return torch.autograd.grad(class_scores.sum(), observation.class_maps)

    return [
        Shortcut(
            "scores of 400 positives",
            "1.5: no sigmoid of every class at every prior",
            lambda: scores(plain_forms.class_scores),
            lambda: scores(RankMimicking()._class_scores),
        )
    ]


if __name__ == "__main__":
    main()
