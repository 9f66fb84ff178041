"""Growth of costs with size: each method's part of a step, the evaluation, and the dry run.

python -m benchmarks.growth                        about two minutes on two idle cores

A step's batch, objects per image, classes and pyramid levels are swept one at a time. The cost of a
method is the median difference to the bare student's step, round by round, so that it includes the
teacher's forward. RetinaNet at scale smoke, random weights and images. The growth of the evaluation
and of the workflow is drawn too if `evaluation.py --growth` and `workflow.py` have written it to
results/benchmarks. The exponent is that of the last three points: 1 is linear.
"""

import copy
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import kd.runtime  # noqa: F401
from benchmarks.growth.figure import Curve, draw, read_curves, write_curves
from benchmarks.report import FOLDER, Line, arguments, publish
from kd.common.timing import in_turn, quartiles
from kd.config.applicability import matrix
from kd.config.classifiers import compose_classifier
from kd.config.compose import detector_model
from kd.config.library import Library
from kd.config.terms import resolve, teachers
from kd.data.sampling import seed_everything
from kd.models import weights
from kd.models.build import build_model
from kd.observers import Progress

CURVE_FILES = ["growth-steps.json", "growth-evaluation.json", "growth-workflow.json"]
"""Files of curves; this benchmark writes the first one."""
SIDE = 128
STRIDES = [8, 16, 32, 64, 128, 256]
PAST_WARM_UP = Progress(step=10_000, epoch=0, epochs=12)
BARE, UNIT = "student alone", "ms beyond the student"
STUDENT, TEACHER = "r18-w0.25", "r18-w0.5"


@dataclass(frozen=True)
class StepSize:
    """Sizes of a step's data and network."""

    batch: int = 4
    objects: int = 8
    """Objects in each image."""
    classes: int = 20
    levels: int = 5


SWEEPS = {
    "batch": [1, 2, 4, 8, 16],
    "objects": [2, 8, 32, 128],
    "classes": [5, 20, 80, 320],
    "levels": [3, 4, 5, 6],
}
TITLES = {
    "batch": "images in the batch",
    "objects": "objects per image",
    "classes": "classes",
    "levels": "pyramid levels",
}


def main() -> None:
    """Run the benchmark and print its table."""
    parser = arguments(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument(
        "--redraw", action="store_true", help="draw the stored curves without measuring"
    )
    options = parser.parse_args()
    init_default_scope("mmdet")
    torch.set_num_threads(1)
    if not options.redraw:
        sweep_curves = [curve for name in SWEEPS for curve in _sweep(name, options.rounds)]
        write_curves(FOLDER / CURVE_FILES[0], sweep_curves)
    curves = [curve for name in CURVE_FILES for curve in read_curves(FOLDER / name)]
    name = options.name or "growth"
    draw(curves, FOLDER / name)
    about = "How costs grow; steps of RetinaNet at scale smoke, batches of 4, one thread."
    print(publish(name, about, [_line(curve) for curve in curves], options.before))


def _sweep(name: str, rounds: int) -> list[Curve]:
    """Return a curve for each method over one sweep."""
    times = [_extra_times(replace(StepSize(), **{name: value}), rounds) for value in SWEEPS[name]]
    return [
        Curve(TITLES[name], UNIT, method, SWEEPS[name], [by_method[method] for by_method in times])
        for method in times[0]
    ]


def _line(curve: Curve) -> Line:
    what = f"{curve.name} over {curve.sweep}: {curve.x[0]:g} to {curve.x[-1]:g}"
    ends = {"least": curve.y[0], "most": curve.y[-1]}
    return Line(what, quartiles([curve.exponent]), details=ends)


def _extra_times(size: StepSize, rounds: int) -> dict[str, float]:
    """Return the milliseconds of each method's step beyond those of the bare student's."""
    library, data = Library(), _data(size)
    with tempfile.TemporaryDirectory() as folder:
        models = _models(size, library, Path(folder))
    cases = {name: partial(_step, model, data) for name, model in models.items()}
    times = in_turn(cases, rounds)
    bare = times.pop(BARE)
    return {
        name: 1000 * quartiles([a - b for a, b in zip(seconds, bare, strict=True)]).median
        for name, seconds in times.items()
    }


def _models(size: StepSize, library: Library, folder: Path) -> dict[str, Any]:
    """Return the bare student and a distiller for each method that applies."""
    student, teacher = (_detector(name, size, library) for name in (STUDENT, TEACHER))
    torch.manual_seed(1)
    trained = build_model(copy.deepcopy(teacher))
    weights.save(folder / "teacher.pth", {"state_dict": trained.state_dict()})
    classifier = compose_classifier("smoke", "shapes-smoke", 0, library, "benchmark")["model"]
    classifier = {**classifier, "classes": size.classes}
    weights.save(folder / "c.pth", {"state_dict": MODELS.build(dict(classifier)).state_dict()})
    models = {BARE: _build(student)}
    for name, row in matrix(library).items():
        if row["retinanet"] or name in library.presets:
            continue
        terms = resolve(name, {}, "retinanet", library, "benchmark")
        teacher_config = {"teacher": teacher, "checkpoint": str(folder / "teacher.pth")}
        if "classifier" in teachers(terms):
            teacher_config = {
                "classifier": classifier,
                "classifier_checkpoint": str(folder / "c.pth"),
            }
        model = {
            "type": "Distiller",
            "student": student,
            "seed": 0,
            "methods": terms,
            **teacher_config,
        }
        models[name] = _build(model)
    return models


def _detector(backbone: str, size: StepSize, library: Library) -> dict[str, Any]:
    scale = library.scale("smoke", "benchmark")
    model = detector_model(
        "retinanet", backbone, size.classes, "scratch", scale, library, "benchmark"
    )
    model = copy.deepcopy(model)
    model["neck"]["num_outs"] = size.levels
    model["bbox_head"]["anchor_generator"]["strides"] = STRIDES[: size.levels]
    return model


def _build(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = build_model(copy.deepcopy(config))
    model.progress = PAST_WARM_UP
    model.optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    return model.train()


def _data(size: StepSize) -> dict[str, Any]:
    """Return a batch of noise with objects of 8 to 64 pixels."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for _ in range(size.batch):
        images.append(torch.randint(256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8))
        sides = 8 + 56 * torch.rand(size.objects, 2, generator=generator)
        corners = (SIDE - sides) * torch.rand(size.objects, 2, generator=generator)
        labels = torch.randint(size.classes, (size.objects,), generator=generator)
        boxes = torch.cat([corners, corners + sides], 1)
        sample = DetDataSample(metainfo={"img_shape": (SIDE, SIDE)})
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
        samples.append(sample)
    return {"inputs": images, "data_samples": samples}


def _step(model: Any, data: dict[str, Any]) -> None:
    seed_everything(0)
    batch = model.data_preprocessor(copy.deepcopy(data), training=True)
    loss, _ = model.parse_losses(model(**batch, mode="loss"))
    model.optimizer.zero_grad()
    loss.backward()
    model.optimizer.step()


if __name__ == "__main__":
    main()
