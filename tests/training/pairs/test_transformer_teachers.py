"""DINO with published weights teaches the neck of RetinaNet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kd.cli.main import main
from kd.common.files import read_json, sha256
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.run import Run
from kd.models.weights import read_state
from kd.training.train import build_runner
from tests.support.tiny_detectors import CLASSES, save_random_weights

BACKBONE = "r18-w0.125"
WIDTH = 64
"""Width of the neck; a normalization needs two values, of a map with one cell."""
DINO: dict[str, Any] = {
    "num_queries": 20,
    "neck": {"out_channels": WIDTH},
    "positional_encoding": {"num_feats": WIDTH // 2},
    "encoder": {
        "num_layers": 1,
        "layer_cfg": {
            "self_attn_cfg": {"embed_dims": WIDTH},
            "ffn_cfg": {"embed_dims": WIDTH, "feedforward_channels": WIDTH},
        },
    },
    "decoder": {
        "num_layers": 1,
        "layer_cfg": {
            "self_attn_cfg": {"embed_dims": WIDTH},
            "cross_attn_cfg": {"embed_dims": WIDTH},
            "ffn_cfg": {"embed_dims": WIDTH, "feedforward_channels": WIDTH},
        },
    },
    "bbox_head": {"embed_dims": WIDTH},
}
"""Settings that make DINO tiny; its neck is wider than that of the tiny RetinaNet."""
STEPS = 8


@pytest.fixture
def planned(study: Callable[..., Plan]) -> Plan:
    """Return the plan of RetinaNet taught by a tiny DINO, whose weights are published."""
    study([])  # writes the tiny parts
    part = yaml.safe_load(Path("configs/teachers/dino.yaml").read_text())
    part["model"]["bbox_head"]["embed_dims"] = 256  # mmdet's default, which the scale changes
    Path("configs/teachers/dino.yaml").write_text(yaml.safe_dump(part))
    scale = yaml.safe_load(Path("configs/scales/tiny.yaml").read_text())
    scale["detectors"]["dino"] = DINO
    Path("configs/scales/tiny.yaml").write_text(yaml.safe_dump(scale))
    library = Library(Path("configs"))
    tiny = library.scale("tiny", "test")
    model = detector_model("dino", BACKBONE, CLASSES, "scratch", tiny, library, "test")
    save_random_weights(model, Path("published"))
    file = Path("published/weights.pth")
    content = yaml.safe_load(Path("configs/studies/tiny.yaml").read_text())
    table = content["tables"]["only"]
    checkpoint = {"source": str(file.resolve()), "sha256": sha256(file)}
    pair = {"teacher": BACKBONE, "teacher_detector": "dino", "student": BACKBONE}
    table |= {"pairs": [pair | {"checkpoint": checkpoint}], "methods": ["fitnets", "pkd"]}
    Path("configs/studies/tiny.yaml").write_text(yaml.safe_dump(content))
    study_plan = plan("tiny", "tiny", Library(Path("configs")))
    for run in study_plan.runs.values():
        run.write()
    return study_plan


def taught(planned: Plan, method: str) -> Run:
    (run,) = (run for run in planned.runs.values() if run.method == method)
    return run


def test_published_weights_are_imported_by_the_usual_command(planned: Plan) -> None:
    teacher = taught(planned, "pkd").teacher
    assert teacher is not None and teacher.detector == "dino"
    assert main(["train", str(teacher.directory)]) == 0
    folders = (Path("published"), teacher.directory)
    published, ours = (read_state(folder / "weights.pth") for folder in folders)
    assert published.keys() == ours.keys()
    assert all(torch.equal(value, ours[key]) for key, value in published.items())
    record = read_json(teacher.directory / "provenance.json")
    assert record["published_checkpoint"]["source"].endswith("weights.pth")


@pytest.mark.parametrize("method", ["fitnets", "pkd"])
def test_retinanet_learns_the_neck_of_dino(planned: Plan, method: str) -> None:
    """Steps on one batch, on which the term falls."""
    run = taught(planned, method)
    assert run.teacher is not None
    assert main(["train", str(run.teacher.directory)]) == 0
    runner = build_runner(run.config, run.directory)
    model = runner.model.train()
    frozen = {key: value.clone() for key, value in model.state_dict().items() if "teacher" in key}
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    batch = next(iter(runner.build_dataloader(runner._train_dataloader)))
    terms = []
    for _ in range(STEPS):
        losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
        value = losses[f"loss_{method}"]
        value = torch.stack(list(value)).sum() if isinstance(value, list) else value
        terms.append(float(value.detach()))
        wrapper.update_params(value)
    assert all(value > 0 for value in terms)
    assert terms[-1] < terms[0], terms
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in frozen.items())
