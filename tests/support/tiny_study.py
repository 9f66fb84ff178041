"""A study of tiny detectors on generated images, in the working directory."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from kd.config.library import Library
from kd.config.plan import Plan, plan
from tests.support.tiny_detectors import BACKBONE, NECKS, save_random_weights, tiny_settings


def write_tiny_parts(shapes_root: Path) -> None:
    """Add a tiny scale, schedule and data set, and a second RetinaNet, to ``configs``."""
    shutil.copy("configs/detectors/retinanet.yaml", "configs/detectors/retinanet-wide.yaml")
    detectors = {name: tiny_settings(name) for name in NECKS}
    sizes = {"ssd300": 64, "ssd512": 64, "yolov3": 64, "rtmdet": 64, "yolox": 64}
    _write("scales/tiny", title="tiny", detectors=detectors, input_sizes=sizes)
    steps = {"epochs": 1, "milestones": [], "warmup_iters": 0, "batch_size": 2, "lr": 0.005}
    _write("schedules/tiny", **steps, init="scratch")
    generate = {"train": 10, "test": 2, "size": 64}
    entry = yaml.safe_load(Path("configs/datasets/shapes-smoke.yaml").read_text())
    entry |= {"root": str(shapes_root), "image_size": [64, 64], "generate": generate}
    _write("datasets/tiny", **entry)
    backbone = yaml.safe_load(Path("configs/backbones/r18.yaml").read_text())
    backbone["model"]["norm_eval"] = False  # so that a forward pass could change a teacher
    _write("backbones/r18", **backbone)


def plan_study(
    methods: list[str],
    settings: dict[str, Any] | None = None,
    detectors: tuple[str, ...] = ("retinanet",),
    teacher_detector: str | None = None,
    classifier: str | None = None,
    teacher: str = "r18-w0.25",
    student: str = BACKBONE,
) -> Plan:
    """Plan a study of the tiny parts in ``configs`` and save random weights of its teachers."""
    pair = {
        "teacher": teacher, "student": student,
        "teacher_detector": teacher_detector, "classifier": classifier,
    }  # fmt: skip
    table = {
        "title": "tiny", "dataset": "tiny", "schedule": "tiny", "detectors": list(detectors),
        "pairs": [pair], "methods": methods, "settings": settings or {},
    }  # fmt: skip
    _write("studies/tiny", title="tiny", source="none", tables={"only": table})
    study = plan("tiny", "tiny", Library(Path("configs")))
    for teacher in {run.teacher.name: run.teacher for run in study.runs.values() if run.teacher}:
        run = study.runs[teacher]
        save_random_weights(run.config["model"], run.directory)
    return study


def _write(name: str, **content: Any) -> None:
    Path(f"configs/{name}.yaml").write_text(yaml.safe_dump(content))
