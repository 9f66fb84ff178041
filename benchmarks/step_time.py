"""Time, memory and host waits of a distilled step over its bound, for each method of a detector.

python benchmarks/step_time.py                             RetinaNet, ResNet-50 to 18, full width
python benchmarks/step_time.py --detector faster_rcnn --batch 1
python benchmarks/step_time.py --scale smoke --size 128x128 --batch 8    the pipeline's own demo

The bound is the bare student's step and the teacher as deep as the method reads, with the gradient
where the method needs one through the teacher, repeated call by call. What the method makes the
student compute in addition is repeated, too. The forward bound has no such gradients. All are run
in turn, with random weights, on random images with seven objects each, as many as COCO's have.
About five minutes on two idle cores, of which it uses one. On a GPU, choose the image size and
batch of the training that is meant: `--size 1344x800 --batch 16`.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import kd.runtime  # noqa: F401
from benchmarks import report
from benchmarks.report import Line
from kd.common.timing import quartiles
from kd.config.applicability import matrix
from kd.config.canonical import built_model
from kd.config.classifiers import compose_classifier
from kd.config.compose import WEIGHTS, compose
from kd.config.library import Library
from kd.config.parts import Scale
from kd.config.run import Run
from kd.config.terms import resolve, teachers
from kd.models import weights
from kd.models.build import build_model
from kd.profiling import measure
from kd.profiling.measure import Memory, Times
from kd.profiling.trainee import Trainee

MOST = 1.10
CLOSE = {"pfi", "rm", "defeat", "fitnets", "pkd", "cwd", "frs", "ld", "bckd"}
"""Methods without further networks, with a stricter target on one-stage detectors."""
MOST_CLOSE = 1.05
MOST_OF = {"dicod": 1.25, "mimic": 1.15}
"""Targets of methods that crop or pool for each prediction."""
MOST_SMOKE = {"dicod": 1.25, "gid": 1.25, "fkd": 1.15}
"""Targets at scale ``smoke``, where what a method adds weighs most."""
MOST_EXTRA = 15
"""Target for memory beyond the student's step and the teacher's maps, in per cent."""
OBJECTS = 7
SLOW_ROUNDS = 2
"""Rounds of a method with a classifier teacher, which classifies a crop for each positive."""


def main() -> None:
    """Run the benchmark and print its table."""
    parser = report.arguments(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--detector", default="retinanet")
    parser.add_argument("--scale", default="paper")
    parser.add_argument("--size", default="224x224", help="image size in pixels, as WIDTHxHEIGHT")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--methods", nargs="+", help="methods to measure (default: all methods, no presets)"
    )
    options = report.parse(
        parser, rounds=1, scale="smoke", size="128x128", batch=1, methods=["fitnets", "dicod"]
    )
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    data = random_batch(options.batch, width, height)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _threads(options)
    about = (
        f"{options.detector}, scale {options.scale}, {options.batch} images of {options.size} a "
        f"step, on {device}; step over bound, medians of {options.rounds} rounds. Extra memory: "
        f"that of the step beyond the student's step and the teacher's maps that are read; at most "
        f"{MOST_EXTRA} %. Host waits: those of the step, and those of the student alone."
    )
    name = options.name or f"step_time-{options.detector}"
    lines: list[Line] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(options.detector, options.scale, Path(folder))
        for line in measured(pair, data, options, notes):
            lines.append(line)
            # Written after each method, so that an end of the time loses one method.
            text = report.publish(name, about, lines, options.before, notes)
    print(text if lines else "\n".join(notes))


def random_batch(images: int, width: int, height: int) -> dict[str, Any]:
    """Return what a loader gives: images and objects of random place, size and class."""
    torch.manual_seed(0)
    size = torch.tensor([width, height])
    samples = []
    for _ in range(images):
        sides = size * (1 / 16 + torch.rand(OBJECTS, 2) * 7 / 16)
        corner = (size - sides) * torch.rand(OBJECTS, 2)
        shape = (height, width)
        sample = DetDataSample(metainfo={"img_shape": shape, "ori_shape": shape})
        sample.set_metainfo({"scale_factor": (1.0, 1.0), "img_id": len(samples)})
        boxes, labels = torch.cat([corner, corner + sides], 1), torch.randint(0, 8, (OBJECTS,))
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
        samples.append(sample)
    pixels = torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8)
    return {"inputs": list(pixels), "data_samples": samples}


class Pair:
    """A detector's student and teachers at a scale; their random weights lie in ``folder``."""

    def __init__(self, detector: str, scale: str, folder: Path) -> None:
        self.detector, self.library, self.folder = detector, Library(), folder
        self.scale_name = scale
        self.scale = self.library.scale(scale, "benchmark")
        names = {
            "scale": scale,
            "dataset": self.scale.datasets.get("coco2017", "coco2017"),
            "schedule": self.scale.schedules.get("1x", "1x"),
            "detector": detector,
            "seed": 0,
        }
        self.dataset = names["dataset"]
        self.alone = self._composed(Run(student=_of(self.scale, "r18"), **names))
        self.teacher = built_model(self._composed(Run(student=_of(self.scale, "r50"), **names)))
        self._save(self.teacher, WEIGHTS)

    def _composed(self, run: Run) -> dict[str, Any]:
        return compose(run, {}, self.scale, self.library, "benchmark")

    def _save(self, config: dict[str, Any], name: str) -> None:
        torch.manual_seed(1)
        backbone = {k: v for k, v in config.get("backbone", {}).items() if k != "init_cfg"}
        random = config | ({"backbone": backbone} if backbone else {})
        model = build_model(random)
        if backbone:
            model.init_weights()
        weights.save(self.folder / name, {"state_dict": model.state_dict()})

    @property
    def methods(self) -> list[str]:
        """Those that apply to the detector, without presets."""
        presets = self.library.presets
        cells = matrix(self.library)
        return [m for m, row in cells.items() if not row[self.detector] and m not in presets]

    def distilled(self, method: str) -> dict[str, Any]:
        """Return the configuration of the student taught by a method."""
        terms = resolve(method, {}, self.detector, self.library, "benchmark")
        model = {"type": "Distiller", "student": built_model(self.alone), "seed": 0}
        model |= {"methods": terms}
        if "classifier" in teachers(terms):
            name = self.scale.classifiers.get("r50", "r50")
            config = compose_classifier(name, self.dataset, 0, self.library, "benchmark")["model"]
            self._save(config, "classifier.pth")
            path = str(self.folder / "classifier.pth")
            model |= {"classifier": config, "classifier_checkpoint": path}
        else:
            model |= {"teacher": self.teacher, "checkpoint": str(self.folder / WEIGHTS)}
        return {**self.alone, "model": model}


def _of(scale: Scale, backbone: str) -> str:
    return scale.backbones.get(backbone, backbone)


def measured(
    pair: Pair, data: dict[str, Any], options: argparse.Namespace, notes: list[str]
) -> Iterator[Line]:
    """Yield the line of each method; add a note for a method that the GPU has no memory for."""
    student = Trainee.build(pair.alone)
    with measure.by_part(student) as charged:
        alone = _count(charged, data)
    peak = measure.peak_of(student, data)
    for method in options.methods or pair.methods:
        print(method, flush=True)
        line = None
        with suppress(torch.OutOfMemoryError):
            line = _measure(pair, method, student, data, options.rounds, peak, alone)
        if line is None:
            torch.cuda.empty_cache()
            notes.append(f"{method}: out of GPU memory; choose a smaller --batch.")
        else:
            yield line


def _measure(
    pair: Pair,
    method: str,
    student: Trainee,
    data: dict[str, Any],
    rounds: int,
    peak: int,
    alone: int,
) -> Line:
    """Return the line of a method; ``peak`` and ``alone``: memory and waits of the student."""
    config = pair.distilled(method)
    distilled = Trainee.build(config)
    replay = measure.replay_of(distilled, data)
    rounds = min(rounds, SLOW_ROUNDS) if "classifier" in config["model"] else rounds
    times = measure.times(student, distilled, replay, data, rounds)
    memory = Memory(measure.peak_of(distilled, data), peak, replay.read_bytes)
    with measure.by_part(distilled) as charged:
        waits = {"host waits": _count(charged, data), "of the student alone": alone}
    return _line(method, times, memory, waits, _target(method, pair))


def _target(method: str, pair: Pair) -> float:
    """Return the largest ratio to the bound that meets the target."""
    targets = MOST_SMOKE if pair.scale_name == "smoke" else MOST_OF
    close = method in CLOSE and "rcnn" not in pair.detector
    return targets.get(method, MOST_CLOSE if close else MOST)


def _line(method: str, times: Times, memory: Memory, waits: dict[str, int], most: float) -> Line:
    seconds = {"step, ms": times.step, "student, ms": times.student, "teacher, ms": times.teacher}
    details = {name: 1000 * quartiles(values).median for name, values in seconds.items()}
    details |= {"over forward bound": times.forward_ratio.median}
    details |= {"extra memory, %": 100 * memory.extra, **waits}
    return Line(method, times.ratio, most=most, details=details)


def _count(charged: measure.ProfiledTrainee, data: Any) -> int:
    return sum(count.total() for count in charged.synchronizations(data).values())


def _threads(options: argparse.Namespace) -> str:
    return f"{options.threads} CPU thread{'s' * (options.threads > 1)}"


if __name__ == "__main__":
    main()
