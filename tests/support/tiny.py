"""A tiny project on disk: the real configuration with parts that train in seconds."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import REPOSITORY

CLASSES = ["triangle", "square", "pentagon", "hexagon", "heptagon", "star", "hexagram", "cross"]
CHANNELS = {"retinanet": 16, "gfl": 32}  # GFL normalizes groups of 32 channels
PARTS: dict[str, dict[str, Any]] = {
    "datasets/shapes-tiny": {
        "format": "coco",
        "root": "data/shapes-tiny",
        "train": {"annotations": "annotations/train.json", "images": "train"},
        "test": {"annotations": "annotations/test.json", "images": "test"},
        "classes": CLASSES,
        "image_size": [64, 64],
        # 22 images make 6 batches, the last of them not full.
        "generate": {"train": 22, "test": 8, "size": 64},
    },
    "schedules/tiny": {
        "epochs": 2,
        "milestones": [1],
        "warmup_iters": 3,
        "batch_size": 4,
        "lr": 0.01,
        "clip_grad": 35,
        "init": "scratch",
    },
    "scales/tiny": {
        "title": "seconds on one CPU core",
        "datasets": {"coco2017": "shapes-tiny"},
        "schedules": {"1x": "tiny"},
        "backbones": {"r18": "r18-w0.125", "r50": "r18-w0.1875", "r18-w0.25": "r18-w0.25"},
        "detectors": {
            **{path.stem: {} for path in (REPOSITORY / "configs/detectors").glob("*.yaml")},
            **{
                name: {
                    "neck": {"out_channels": width},
                    "bbox_head": {"in_channels": width, "feat_channels": width, "stacked_convs": 1},
                }
                for name, width in CHANNELS.items()
            },
        },
    },
    "studies/tiny": {
        "title": "A pair to test with",
        "source": "tests",
        "tables": {
            "pair": {
                "title": "One pair",
                "dataset": "coco2017",
                "schedule": "1x",
                "detectors": ["retinanet"],
                "pairs": [{"teacher": "r50", "student": "r18"}],
                "methods": ["rm", "rm+pfi"],
            }
        },
    },
}
TEACHER = "retinanet-r18-w0.1875/alone"
STUDENT = "retinanet-r18-w0.125/alone"
DISTILLED = "rm+pfi_from"


def make_project(folder: Path, data: bool = True) -> Path:
    """Copy ``configs`` into ``folder``, add the tiny parts and, with ``data``, the images."""
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    for name, content in PARTS.items():
        (folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    if data:
        for name, content in _images().items():
            path = folder / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def write_other_study(project: Path) -> None:
    """Add study ``other``, which shares a teacher and two students with ``tiny``."""
    study = yaml.safe_load((project / "configs/studies/tiny.yaml").read_text())
    study["tables"]["pair"]["methods"] = ["rm", "pfi"]
    study["figures"] = {"curves": {"analysis": "training_curves"}}
    (project / "configs/studies/other.yaml").write_text(yaml.safe_dump(study))


def edit(path: str | Path, **changes: Any) -> None:
    """Set keys of a YAML file; ``a__b=1`` sets ``b`` in the block ``a``, None removes a key."""
    content = yaml.safe_load(Path(path).read_text())
    for keys, value in changes.items():
        *blocks, last = keys.split("__")
        block = content
        for key in blocks:
            block = block[key]
        if value is None:
            del block[last]
        else:
            block[last] = value
    Path(path).write_text(yaml.safe_dump(content, sort_keys=False))


def write_run(contains: str, study: str = "tiny", scale: str = "tiny", **options: Any) -> Path:
    """Write the one run whose name contains a text, logging every step; return its directory."""
    from kd.config.library import Library
    from kd.config.plan import plan
    from kd.config.selection import StudyOptions

    runs = plan(study, scale, Library(), StudyOptions(**options)).runs
    (run,) = (run for name, run in runs.items() if contains in name)
    run.write()
    path = run.directory / "config.json"
    config = json.loads(path.read_text())
    for hook in config.get("custom_hooks", []):
        if hook["type"] == "StepLog":
            hook["interval"] = 1
    path.write_text(json.dumps(config))
    return run.directory


def copy_run(run: Path, name: str) -> Path:
    """Return a directory beside ``run`` with the same configuration and nothing trained."""
    copy = run.parent / name
    copy.mkdir()
    for file in ("run.json", "config.json"):
        shutil.copy(run / file, copy / file)
    return copy


def kd(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start the command line in a new process, in the current folder."""
    return python("kd", *arguments, **environment)


def python(module: str, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start a module with arguments in a new process, in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def unexpected(errors: str) -> list[str]:
    """Return the lines of a training's stderr without warnings about a term's scale.

    The distillation terms of networks that are hardly trained are weak.
    """
    return [line for line in errors.splitlines() if not line.startswith("warning: method '")]


@cache
def _images() -> dict[str, bytes]:
    """Generate the data set once and return its files by their path below ``data``."""
    from tempfile import TemporaryDirectory

    from kd.data.builtin.shapes import generate
    from kd.data.entry import Dataset

    name = "datasets/shapes-tiny"
    with TemporaryDirectory() as folder:
        settings = Dataset.parse(PARTS[name], name).generate
        assert settings is not None
        root = Path(folder) / "shapes-tiny"
        generate(settings, root)
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file()
        }
