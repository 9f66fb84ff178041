"""Tiny detectors, a batch of random images, and a study of both on generated images.

torch and mmdet are imported when a fixture first needs them: many tests need neither.
"""

import gc
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

from kd.cli.terminal import log_to_terminal
from kd.common import yapf_cache
from kd.config.compose import WEIGHTS, detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.plan import Plan, plan
from kd.data.entry import Shapes
from tests.slurm import matrix
from tests.support import machine
from tests.support.paths import CONFIGS

# Sums, and so digests of weights, depend on the number of threads. Processes that tests start
# inherit it; several threads of each would also wait for each other on a machine with other work.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

CLASSES = 8
BACKBONE = "r18-w0.125"
NECKS = {  # GFL, FCOS and ATSS normalise 32 groups of channels
    "retinanet": 16, "retinanet-wide": 24, "gfl": 32, "fcos": 32, "atss": 32, "faster_rcnn": 16,
    "cascade_rcnn": 16, "ssd300": 16, "ssd512": 16, "yolov3": 16,
}  # fmt: skip

# Each data set is written to disk, decoded and trained on: time says nothing about a fault.
UNTIMED = {"deadline": None, "suppress_health_check": [*HealthCheck]}
settings.register_profile("suite", max_examples=40, derandomize=True, database=None, **UNTIMED)
settings.register_profile("nightly", max_examples=500, print_blob=True, **UNTIMED)


def pytest_configure(config: pytest.Config) -> None:
    """Import what several workers cannot at once, and let what tests start be interrupted.

    A shell's background job cannot be.
    """
    settings.load_profile(config.getoption("--hypothesis-profile") or "suite")
    yapf_cache.load()
    log_to_terminal()  # many tests call the library without its command line
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed all generators before a test and its fixtures, so that no test depends on others."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def quiet_mmdet() -> None:
    """One thread, everything registered, and no log of every initialised layer."""
    import torch
    from mmengine.logging import MMLogger

    import kd.runtime  # noqa: F401

    torch.set_num_threads(1)
    MMLogger.get_instance("tests", log_level="ERROR")
    gc.freeze()  # each data set of mmengine collects garbage, a second with all that is imported


def tiny(family: str) -> dict[str, Any]:
    """What makes a detector tiny, as a scale says it: also for images of 40 x 48 pixels."""
    neck = NECKS[family]
    if family.endswith("rcnn"):
        return tiny_two_stage(neck)
    if family.startswith("ssd"):
        return tiny_ssd(neck, 2 if family == "ssd300" else 3)
    if family == "yolov3":
        widths = [neck] * 3
        anchors = {"base_sizes": [[[32, 24], [24, 32]], [[16, 16], [20, 12]], [[8, 8], [12, 10]]]}
        head = {"in_channels": widths, "out_channels": widths, "anchor_generator": anchors}
        return {"neck": {"out_channels": widths}, "bbox_head": head}
    if family == "fcos":
        reach: dict[str, Any] = {
            "regress_ranges": [[-1, 16], [16, 32], [32, 64], [64, 128], [128, 999]]
        }
    else:
        reach = {"anchor_generator": {"octave_base_scale": 2 if "retinanet" in family else 4}}
    head = {"in_channels": neck, "feat_channels": neck, "stacked_convs": 1, **reach}
    return {"neck": {"out_channels": neck}, "bbox_head": head}


def tiny_two_stage(neck: int) -> dict[str, Any]:
    proposals = {"nms_pre": 100, "max_per_img": 50}
    anchors = {"scales": [2]}
    return {
        "neck": {"out_channels": neck},
        "rpn_head": {"in_channels": neck, "feat_channels": neck, "anchor_generator": anchors},
        "roi_head": {
            "bbox_roi_extractor": {"out_channels": neck},
            "bbox_head": {"in_channels": neck, "fc_out_channels": 2 * neck},
        },
        "train_cfg": {"rpn_proposal": proposals, "rcnn": {"sampler": {"num": 32}}},
        "test_cfg": {"rpn": proposals},
    }


def tiny_ssd(neck: int, extra: int) -> dict[str, Any]:
    levels, sizes = 2 + extra, [6, 12, 20, 32, 48, 64]
    anchors = {
        "strides": [8, 16, 32, 64, 128][:levels],
        "ratios": [[2]] * levels,
        "min_sizes": sizes[:levels],
        "max_sizes": sizes[1 : levels + 1],
    }
    layers = {"level_strides": [2] * extra, "level_paddings": [1] * extra, "last_kernel_size": 3}
    return {
        "neck": {"out_channels": [neck] * extra, **layers},
        "bbox_head": {"anchor_generator": anchors},
    }


@pytest.fixture
def model_config() -> Callable[..., dict[str, Any]]:
    """Return mmdet's model dict of a tiny detector."""

    def compose(
        family: str = "retinanet", backbone: str = BACKBONE, init: str = "scratch"
    ) -> dict[str, Any]:
        scale = Scale(title="tiny", detectors={family: tiny(family)})
        library = Library(CONFIGS)
        model = detector_model(family, backbone, CLASSES, init, scale, library, "tests")
        if "norm_eval" in model["backbone"]:
            model["backbone"]["norm_eval"] = False  # so that a forward pass can change something
        return model

    return compose


@pytest.fixture
def build(quiet_mmdet: None, model_config: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return a tiny detector of random weights, in training mode."""
    import torch

    from kd.models.build import build_model

    def detector(family: str = "retinanet", seed: int = 0, **settings: Any) -> Any:
        torch.manual_seed(seed)
        built = build_model(model_config(family, **settings))
        built.init_weights()
        return built.train()

    return detector


@pytest.fixture
def images(build: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return preprocessed images of 64 x 96 and 40 x 48 pixels: inputs and data samples.

    ``boxes``: how many each image has. The second image's padding to a multiple of 32 is 64 x 64,
    so a part of its place in the batch is no part of it.
    """
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    def sample(height: int, width: int, boxes: int) -> DetDataSample:
        corner = torch.rand(boxes, 2) * torch.tensor([width, height]) * 0.5
        far = corner + 8 + torch.rand(boxes, 2) * torch.tensor([width, height]) * 0.3
        size = (height, width)
        annotated = DetDataSample(metainfo={"img_shape": size, "ori_shape": size})
        annotated.set_metainfo({"scale_factor": (1.0, 1.0), "img_id": height})
        annotated.gt_instances = InstanceData(
            bboxes=torch.cat([corner, far], 1), labels=torch.randint(0, CLASSES, (boxes,))
        )
        return annotated

    def prepared(boxes: tuple[int, int] = (3, 2), seed: int = 0) -> dict[str, Any]:
        torch.manual_seed(seed)
        sizes = [(64, 96), (40, 48)]
        raw = {
            "inputs": [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes],
            "data_samples": [
                sample(*size, count) for size, count in zip(sizes, boxes, strict=True)
            ],
        }
        return build().data_preprocessor(raw, training=True)

    return prepared


@pytest.fixture
def batch(images: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return the images as a kd.observers.Batch."""
    from kd.observers import Batch

    def made(boxes: tuple[int, int] = (3, 2), seed: int = 0) -> Batch:
        data = images(boxes, seed)
        return Batch(data["inputs"], data["data_samples"])

    return made


@pytest.fixture
def distil_random_maps(build: Callable[..., Any], batch: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method's losses on random maps in float32, and on their bfloat16 under autocast.

    Features have the magnitude 100 and, where the teacher's are wider, an adapter.
    """
    import torch
    from torch import nn

    from kd.observers import Channels, DenseObservation
    from kd.training.distiller import Distiller

    detector, data = build(), batch()
    labelled = DenseObservation(detector, data, frozen=True)
    labelled.losses()

    def observed(seed: int, channels: int, dtype: torch.dtype) -> DenseObservation:
        torch.manual_seed(seed)

        def random(like: list[torch.Tensor], deviation: float, channels: int = 0) -> Any:
            shapes = [(len(m), channels or m.shape[1], *m.shape[2:]) for m in like]
            return [(torch.randn(shape) * deviation).to(dtype) for shape in shapes]

        scores, boxes = labelled.outputs
        observation = DenseObservation(detector, data, frozen=False)
        observation.neck = random(labelled.neck, 100, channels)
        observation.outputs = random(scores, 2), random(boxes, 0.3)
        observation.assignment, observation.sampled = labelled.assignment, labelled.sampled
        return observation

    def both(term: Any, channels: int = 16) -> list[dict[str, Any]]:
        torch.manual_seed(0)
        adapters = nn.ModuleDict(
            term.adapters(Channels([16] * 5, []), Channels([channels] * 5, []))
        )
        distiller = SimpleNamespace(terms={"term": term}, adapters={"term": adapters})
        found = []
        for dtype in (torch.float32, torch.bfloat16):
            student = observed(1, 16, dtype)
            teachers = {"detector": observed(2, channels, dtype)}
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                found.append(Distiller.distillation(distiller, student, teachers, data))
        return found

    return both


@pytest.fixture
def ballast(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make every step of distillation hold a block of 64 MB; return its bytes.

    The other tensors of a tiny step take about 2 MB, of which a convolution's workspace depends on
    the processor. The block makes the step's peak a property of the step alone.
    """
    import torch

    from kd.training.distiller import Distiller

    size, distillation = 2**26, Distiller.distillation

    def loaded(self: Distiller, *arguments: Any) -> Any:
        block = torch.empty(size, dtype=torch.uint8)
        losses = distillation(self, *arguments)
        del block
        return losses

    monkeypatch.setattr(Distiller, "distillation", loaded)
    return size


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training images of 64 x 64 pixels, generated."""
    from kd.data.builtin.shapes import generate

    root = tmp_path_factory.mktemp("shapes") / "tiny"
    generate(Shapes(train=10, test=2, size=64), root)
    return root


@pytest.fixture
def study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes_root: Path, quiet_mmdet: None
) -> Callable[..., Plan]:
    """Plan a study of five steps a run, in a folder of its own, with teachers of random weights.

    ``retinanet-wide`` is RetinaNet with a wider neck, to teach the other.
    """
    from mmengine.config import Config

    monkeypatch.setattr(Config, "pretty_text", "")  # formatted three times a run, to be logged
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIGS, "configs")
    write_tiny_parts(shapes_root)
    return plan_study


def plan_study(
    methods: list[str],
    settings: dict[str, Any] | None = None,
    detectors: tuple[str, ...] = ("retinanet",),
    teacher_detector: str | None = None,
    classifier: str | None = None,
) -> Plan:
    """Plan a study of the tiny parts in ``configs``; save random weights of its teachers."""
    pair = {
        "teacher": "r18-w0.25", "student": BACKBONE,
        "teacher_detector": teacher_detector, "classifier": classifier,
    }  # fmt: skip
    table = {
        "title": "tiny", "dataset": "tiny", "schedule": "tiny", "detectors": list(detectors),
        "pairs": [pair], "methods": methods, "settings": settings or {},
    }  # fmt: skip
    write("studies/tiny", title="tiny", source="none", tables={"only": table})
    made = plan("tiny", "tiny", Library(Path("configs")))
    for teacher in {run.teacher.name: run.teacher for run in made.runs.values() if run.teacher}:
        save_random_weights(made.runs[teacher].config["model"], made.runs[teacher].directory)
    return made


def write_tiny_parts(shapes_root: Path) -> None:
    """Add a tiny scale, schedule and data set, and a second RetinaNet, to ``configs``."""
    shutil.copy("configs/detectors/retinanet.yaml", "configs/detectors/retinanet-wide.yaml")
    detectors = {name: tiny(name) for name in NECKS}
    sizes = {"ssd300": 64, "ssd512": 64, "yolov3": 64}
    write("scales/tiny", title="tiny", detectors=detectors, input_sizes=sizes)
    steps = {"epochs": 1, "milestones": [], "warmup_iters": 0, "batch_size": 2, "lr": 0.005}
    write("schedules/tiny", **steps, init="scratch")
    generate = {"train": 10, "test": 2, "size": 64}
    entry = yaml.safe_load(Path("configs/datasets/shapes-smoke.yaml").read_text())
    entry |= {"root": str(shapes_root), "image_size": [64, 64], "generate": generate}
    write("datasets/tiny", **entry)
    backbone = yaml.safe_load(Path("configs/backbones/r18.yaml").read_text())
    backbone["model"]["norm_eval"] = False  # so that a forward pass could change a teacher
    write("backbones/r18", **backbone)


def write(name: str, **content: Any) -> None:
    Path(f"configs/{name}.yaml").write_text(yaml.safe_dump(content))


def save_random_weights(model: dict[str, Any], directory: Path) -> None:
    import torch

    from kd.models import weights
    from kd.models.build import build_model

    torch.manual_seed(123)
    detector = build_model(model)
    detector.init_weights()
    with torch.no_grad():
        for name, parameter in detector.named_parameters():
            if "head" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # predictions that vary
        if model["type"] == "FCOS":
            detector.bbox_head.conv_reg.bias += 2.5  # boxes of some pixels, not of one
    weights.save(directory / WEIGHTS, {"state_dict": detector.state_dict()})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how much of each matrix was run, and why tests were skipped."""
    passed = [report.nodeid for report in terminalreporter.stats.get("passed", [])]
    trained = sum("test_matrix.py::test_trains" in name for name in passed)
    refused = sum("test_matrix.py::test_refused" in name for name in passed)
    if trained or refused:
        terminalreporter.write_line(
            f"methods x detectors: {trained} cells trained, {refused} refused with the reason"
        )
    for number, line in enumerate(matrix.lines(terminalreporter.stats)):
        if number == 0:
            terminalreporter.write_line("failures on a Slurm cluster:")
        terminalreporter.write_line(line)
    for line in machine.skipped(terminalreporter.stats):
        terminalreporter.write_line(line)
