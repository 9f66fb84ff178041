"""Gradients of batches computed in parts and in processes, compared with those of whole batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kd.config.terms import resolve
from tests.config.test_applicability import LIBRARY
from tests.support.tiny_detectors import save_random_weights

BOXES = (3, 0, 1, 2, 1, 1, 4, 2, 0, 0, 5, 1, 2, 2, 1, 3)
"""Objects of each image of the batch of 16: the parts have different counts."""
ONE_OBJECT = (0,) * 15 + (1,)
"""Only one part has an object."""
DETECTORS = ("retinanet", "gfl", "tood", "ddod", "faster_rcnn", "yolov3")
"""GFL and TOOD divide by sums of predicted qualities, YOLOv3 by no count. DDOD counts all steps."""
METHODS = {
    "rm": "retinanet",
    "pfi": "retinanet",
    "fgd": "retinanet",
    "fkd": "retinanet",
    "pkd": "retinanet",
    "ld": "gfl",
}
TOLERANCE = 5e-6
"""Largest difference of a float32 gradient, over the norm of the whole gradient."""
FLOAT64_TOLERANCE = 1e-8
"""The same in float64; mmdet adds 1.2e-7 to divisors, which are smaller for parts."""
PROBED = ("pfi", "rm")

Configs = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


def without_drops(model: dict[str, Any]) -> dict[str, Any]:
    """Let the samplers of a two-stage detector keep every anchor and RoI."""
    if "roi_head" in model:
        for stage in ("rpn", "rcnn"):
            model["train_cfg"][stage]["sampler"]["num"] = 10_000
    return model


@pytest.fixture
def detectors(quiet_mmdet: None, model_config: Callable[..., Any]) -> Configs:
    return {name: without_drops(model_config(name)) for name in DETECTORS}


@pytest.fixture
def distillers(quiet_mmdet: None, model_config: Callable[..., Any], folder: Path) -> Configs:
    """Return the configuration of a distilled student for each method."""
    configs = {}
    for method, detector in METHODS.items():
        path = folder / detector / "weights.pth"
        teacher = model_config(detector, backbone="r18-w0.25")
        if not path.exists():
            save_random_weights(teacher, path.parent)
        configs[method] = {
            "type": "Distiller",
            "student": model_config(detector),
            "seed": 0,
            "teacher": teacher,
            "checkpoint": str(path),
            "methods": resolve(method, {}, detector, LIBRARY, "parts"),
        }
    return configs


def compare(config: dict[str, Any], boxes: tuple[int, ...], parts: int) -> tuple[float, float]:
    """Return the largest differences of gradients and losses between parts and a whole batch."""
    from kd.training.module_states import training_states
    from tests.support.steps import build, largest_difference, raw_batch, step_of

    whole_model, model = build(config), build(config)
    whole, losses = step_of(whole_model, raw_batch(boxes))
    parted, parted_losses = step_of(model, raw_batch(boxes), parts)
    assert training_states(model) == training_states(whole_model)
    assert (whole.updates, parted.updates) == (1, 1)
    assert parted_losses.keys() == losses.keys()
    scale = losses["loss"].abs()
    terms = [name for name in losses if name != "acc"]
    gap = max(float((parted_losses[name] - losses[name]).abs() / scale) for name in terms)
    return largest_difference(parted.gradients, whole.gradients), gap


@pytest.mark.parametrize("name", DETECTORS)
def test_two_and_four_parts_have_the_gradients_and_losses_of_the_batch(name, detectors):
    for parts in (2, 4):
        gradients, losses = compare(detectors[name], BOXES, parts)
        assert gradients < TOLERANCE
        assert losses < TOLERANCE


@pytest.mark.parametrize("name", METHODS)
def test_a_distilled_student_has_the_gradients_and_losses_of_the_batch(name, distillers):
    gradients, losses = compare(distillers[name], BOXES, 4)
    assert gradients < TOLERANCE
    assert losses < TOLERANCE


@pytest.mark.parametrize("name", ["retinanet", "gfl", "tood", "faster_rcnn"])
def test_counts_are_at_least_one_over_the_batch_and_not_in_each_part(name, detectors):
    assert compare(detectors[name], ONE_OBJECT, 4)[0] < TOLERANCE


def test_float64_gradients_are_equal_up_to_the_number_that_mmdet_adds(detectors, monkeypatch):
    from tests.support import steps

    build = steps.build
    monkeypatch.setattr(steps, "build", lambda config: build(config).double())
    assert compare(detectors["retinanet"], BOXES, 4)[0] < FLOAT64_TOLERANCE


@pytest.mark.parametrize("name", ["retinanet", "gfl", "faster_rcnn"])
def test_without_counts_of_the_batch_the_gradients_differ(name, detectors, monkeypatch):
    """The comparison fails if each part divides by its own count."""
    from kd.methods.ops.parts import Parts

    monkeypatch.setattr(Parts, "total", lambda parts, value, depth=0: parts.participants * value)
    assert compare(detectors[name], BOXES, 4)[0] > 10 * TOLERANCE


def test_without_a_second_round_a_sum_of_sums_is_wrong(distillers, monkeypatch):
    """PKD's moments depend on means over the batch."""
    from kd.methods.ops.parts import Parts

    monkeypatch.setattr(Parts, "required_rounds", 1)
    assert compare(distillers["pkd"], BOXES, 4)[0] > 100 * TOLERANCE


def test_two_processes_with_two_parts_have_the_gradients_of_the_batch(
    detectors, distillers, model_config, tmp_path
):
    import torch
    from torch import multiprocessing

    from tests.support.steps import build, largest_difference, raw_batch, step_of

    jobs = {name: detectors[name] for name in ("retinanet", "gfl")} | {"fgd": distillers["fgd"]}
    sampled = model_config("faster_rcnn")
    sampled["train_cfg"]["rcnn"]["sampler"]["num"] = 8
    jobs["sampled"] = sampled
    multiprocessing.spawn(save_gradients_of_half, (jobs, tmp_path), nprocs=2)
    shared = torch.load(tmp_path / "gradients.pth", weights_only=True)
    for name, config in jobs.items():
        # RoIs are sampled in each part, so a batch of four parts is compared.
        recorder, _ = step_of(build(config), raw_batch(BOXES), parts=4 if name == "sampled" else 1)
        assert largest_difference(shared[name], recorder.gradients) < TOLERANCE, name


def save_gradients_of_half(rank: int, jobs: Configs, folder: Path) -> None:
    """Compute half of the batch in two parts, in one of two processes; rank 0 saves gradients."""
    import torch
    from torch import distributed

    import kd.runtime  # noqa: F401
    from tests.support.steps import build, raw_batch, step_of

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    half = slice(8 * rank, 8 * rank + 8)
    gradients = {}
    for name, config in jobs.items():
        batch = {key: value[half] for key, value in raw_batch(BOXES).items()}
        recorder, _ = step_of(build(config), batch, parts=2)
        gradients[name] = recorder.gradients
    if rank == 0:
        torch.save(gradients, folder / "gradients.pth")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("name", PROBED)
def test_probes_measure_the_gradient_of_the_batch(name, distillers):
    from tests.support.steps import build, raw_batch, step_of

    model = build(distillers[name])
    model.probing = True
    step_of(model, raw_batch(BOXES))
    whole = model.probed
    step_of(model, raw_batch(BOXES), 4)
    assert model.probing
    assert model.probed.keys() == whole.keys()
    for term, norms in whole.items():
        assert model.probed[term] == pytest.approx(norms, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.005)])
def test_weights_converted_for_the_counts_get_gradients(precision, tolerance, detectors):
    """Autocast caches converted weights; those of a pass without gradients must not be reused."""
    from tests.support.steps import build, largest_difference, raw_batch, step_of

    model = build(detectors["retinanet"])
    whole, _ = step_of(model, raw_batch(BOXES[:4], (128, 128)))
    parted, _ = step_of(model, raw_batch(BOXES[:4], (128, 128)), 2, precision)
    scale = parted.scaler.get_scale()
    gradients = {name: value / scale for name, value in parted.gradients.items()}
    assert largest_difference(gradients, whole.gradients) < tolerance
