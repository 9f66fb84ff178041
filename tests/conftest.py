"""Fixtures of several rooms: tiny detectors, a batch of random images, and a study of both.

A fixture imports torch and mmdet at its first use, because many tests need neither.
"""

import gc
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from kd.cli.terminal import log_to_terminal
from kd.common import yapf_cache
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.plan import Plan
from kd.data.entry import Shapes
from tests.slurm import matrix
from tests.support import machine
from tests.support.paths import CONFIGS
from tests.support.tiny_detectors import BACKBONE, CLASSES, tiny_settings
from tests.support.tiny_study import plan_study, write_tiny_parts

# The number of threads changes sums, and so the digests of weights. Processes that tests start
# inherit it; on a busy machine their threads would also wait for each other.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

# Examples write, decode and train on data sets, so a long example is not a fault.
UNTIMED = {"deadline": None, "suppress_health_check": [*HealthCheck]}
settings.register_profile("suite", max_examples=40, derandomize=True, database=None, **UNTIMED)
settings.register_profile("nightly", max_examples=500, print_blob=True, **UNTIMED)


def pytest_configure(config: pytest.Config) -> None:
    """Import yapf, which several workers cannot do at once, and enable SIGINT.

    Processes that tests start inherit SIGINT; a background job of a shell ignores it.
    """
    settings.load_profile(config.getoption("--hypothesis-profile") or "suite")
    yapf_cache.load()
    log_to_terminal()  # many tests call the library without its command line
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


FIRST = ("tests/workflow/", "tests/training/", "tests/rehearsal/", "tests/benchmarks/")
"""Rooms with the files that take minutes."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no worker computes one after the others have ended."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed all generators and use one thread, so that no test depends on others."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
        torch.set_num_threads(1)  # commands change it, and other numbers round sums otherwise


@pytest.fixture(scope="session")
def quiet_mmdet() -> None:
    """Use one thread, register all classes, and drop the log of every initialized layer."""
    import torch
    from mmengine.logging import MMLogger

    import kd.runtime  # noqa: F401

    torch.set_num_threads(1)
    MMLogger.get_instance("tests", log_level="ERROR")
    gc.freeze()  # each data set of mmengine collects garbage; scanning all modules takes a second


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Return the device that a test runs on: the GPU if there is one, otherwise the CPU."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        machine.skip("torch finds no GPU", "run `pytest -m gpu` on a machine with one")
    if request.param == "cpu" and torch.cuda.is_available():
        machine.skip("this machine has a GPU", "hide it: `CUDA_VISIBLE_DEVICES= pytest`")
    return str(request.param)


@pytest.fixture
def model_config() -> Callable[..., dict[str, Any]]:
    """Return a function that composes mmdet's model dict of a tiny detector."""

    def compose(
        family: str = "retinanet", backbone: str = BACKBONE, init: str = "scratch"
    ) -> dict[str, Any]:
        scale = Scale(title="tiny", detectors={family: tiny_settings(family)})
        library = Library(CONFIGS)
        model = detector_model(family, backbone, CLASSES, init, scale, library, "tests")
        if "norm_eval" in model["backbone"]:
            model["backbone"]["norm_eval"] = False  # so that a forward pass can change something
        return model

    return compose


@pytest.fixture
def build(quiet_mmdet: None, model_config: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return a function that builds a tiny detector with random weights, in training mode."""
    import torch

    from kd.models.build import build_model

    def detector(family: str = "retinanet", seed: int = 0, **settings: Any) -> Any:
        torch.manual_seed(seed)
        model = build_model(model_config(family, **settings))
        model.init_weights()
        return model.train()

    return detector


@pytest.fixture
def images(build: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return a function that preprocesses random images: inputs and data samples.

    The images have 64 x 96 and 40 x 48 pixels and ``boxes`` boxes. The second is padded to 64 x 64,
    a multiple of 32, so part of its place in the batch is outside of the padded image.
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

    def preprocessed(boxes: tuple[int, int] = (3, 2), seed: int = 0) -> dict[str, Any]:
        torch.manual_seed(seed)
        sizes = [(64, 96), (40, 48)]
        raw = {
            "inputs": [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes],
            "data_samples": [
                sample(*size, count) for size, count in zip(sizes, boxes, strict=True)
            ],
        }
        return build().data_preprocessor(raw, training=True)

    return preprocessed


@pytest.fixture
def batch(images: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Return a function that wraps the images in a ``kd.observers.Batch``."""
    from kd.observers import Batch

    def batch_of(boxes: tuple[int, int] = (3, 2), seed: int = 0) -> Batch:
        data = images(boxes, seed)
        return Batch(data["inputs"], data["data_samples"])

    return batch_of


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate ten training images of 64 x 64 pixels."""
    from kd.data.builtin.shapes import generate

    root = tmp_path_factory.mktemp("shapes") / "tiny"
    generate(Shapes(train=10, test=2, size=64), root)
    return root


@pytest.fixture
def study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shapes_root: Path, quiet_mmdet: None
) -> Callable[..., Plan]:
    """Return a function that plans a study of five steps per run in an empty folder.

    Teachers have random weights. ``retinanet-wide``, RetinaNet with a wider neck, is a teacher of
    RetinaNet.
    """
    from mmengine.config import Config

    monkeypatch.setattr(
        Config, "pretty_text", ""
    )  # slow, and computed three times per run for the log
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIGS, "configs")
    write_tiny_parts(shapes_root)
    return plan_study


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many cells of each matrix were run, and the reasons of skipped tests."""
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
