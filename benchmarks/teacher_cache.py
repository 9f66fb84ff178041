"""Time a distilled step with a teacher's outputs kept over one without, epoch by epoch.

python benchmarks/teacher_cache.py        RM and PFI, RetinaNet, of two studies; about three minutes

On two kinds of images: the built-in ones at scale smoke, and blood cells at scale laptop, where
``data/bccd`` is there. The student alone, taught by its teacher and taught from the cache make each
step in turn on the same batch, on one thread, with random weights. In the first epoch batches and
their mirror images are computed; in later ones all are known.
"""

import copy
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from benchmarks import report
from benchmarks.report import Line
from kd.common.timing import quartiles, ratio, timed
from kd.config import pipelines
from kd.config.canonical import student_alone
from kd.config.compose import WEIGHTS
from kd.config.composed import ComposedConfig
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.run import Run
from kd.data.builtin.shapes import generate
from kd.data.sampling import build_dataset
from kd.models import weights
from kd.models.build import build_model
from kd.profiling.trainee import Trainee
from kd.training.teacher_cache import TeacherCache, TeacherInputs

STUDIES = {"demo": "smoke", "bccd": "laptop"}
METHODS = ("rm", "pfi")
EPOCHS = 3
MEGABYTES = 2000
Times = dict[str, list[float]]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = report.arguments(__doc__)
    parser.set_defaults(rounds=6)
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    options = parser.parse_args()
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    torch.set_num_threads(1)
    lines, notes = [], []
    for study in options.studies:
        for run in _runs(study, options.methods):
            if not Path(_reader(run.config)["data_root"]).exists():
                notes.append(f"Left out {study}: no {_reader(run.config)['data_root']}.")
                break
            print(f"{study}, {run.method}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                lines += _measured(run, study, Path(folder), options.rounds)
    about = (
        f"A distilled step from the cache over one without, RetinaNet, one thread; medians of "
        f"{options.rounds} steps of an epoch. Memory and disk: for all training images, in both "
        "forms. Known: batches of maps that the teacher did not compute."
    )
    print(report.publish(options.name or "teacher_cache", about, lines, options.before, notes))


def _runs(study: str, methods: list[str]) -> Iterator[Run]:
    """Yield the first run of each method with RetinaNet, its built-in images there."""
    library = Library()
    runs = plan(study, STUDIES[study], library).runs.values()
    for method in methods:
        run = next(r for r in runs if r.method == method and r.detector == "retinanet")
        entry = library.dataset(run.dataset, "benchmark")
        if entry.generate and not (Path(entry.root) / "generated.json").exists():
            generate(entry.generate, Path(entry.root))
        yield run


def _measured(run: Run, study: str, folder: Path, steps: int) -> list[Line]:
    """Return the lines of each epoch, and of a training as long as the run's."""
    config = copy.deepcopy(run.config)
    config["model"]["checkpoint"] = random_weights(config["model"]["teacher"], folder)
    images, size = len(build_dataset(_reader(config))), config["train_dataloader"]["batch_size"]
    _reader(config)["indices"] = steps * size
    trainees = {"student": Trainee.build(student_alone(config))}
    trainees |= {name: Trainee.build(config) for name in ("taught", "cached")}
    inputs = TeacherInputs(images, pipelines.forms(ComposedConfig(config)), size)
    cache = TeacherCache({}, inputs, MEGABYTES, folder)
    title, lines, epochs = f"{study}, {run.method}", [], []
    for number, (times, hit_rate) in enumerate(_epochs(trainees, cache, steps), start=1):
        epochs.append(times)
        details = {f"{name}, ms": 1000 * quartiles(times[name]).median for name in times}
        value = ratio(times["cached"], times["taught"])
        lines.append(Line(f"{title}: epoch {number}", value, None, None, details | hit_rate))
    space = {"memory, MB": cache.memory.reserved / 1e6, "disk, MB": cache.disk.reserved / 1e6}
    over = ratio(epochs[-1]["cached"], epochs[-1]["student"])
    lines.append(Line(f"{title}: epoch {EPOCHS}, over the student alone", over, details=space))
    return [*lines, _whole(f"{title}: all", epochs, config["train_cfg"]["max_epochs"])]


def _whole(title: str, epochs: list[Times], count: int) -> Line:
    """Return the ratio of a whole training, whose later epochs equal the last measured one."""
    times = {
        name: [
            first + (count - 1) * last
            for first, last in zip(epochs[0][name], epochs[-1][name], strict=True)
        ]
        for name in ("cached", "taught")
    }
    return Line(f"{title} {count} epochs", ratio(times["cached"], times["taught"]), most=1)


def _epochs(
    trainees: dict[str, Trainee], cache: TeacherCache, steps: int
) -> Iterator[tuple[Times, dict[str, float]]]:
    """Yield the seconds of each epoch's steps, and the share of cached maps."""
    batches = trainees["student"].batches()
    for trainee in trainees.values():  # for caches and allocators
        trainee.step(next(batches))
    batches = trainees["student"].batches()
    trainees["cached"].model.teacher_cache = cache
    for _ in range(EPOCHS):
        times: Times = {name: [] for name in trainees}
        hits, lookups = cache.hits, cache.lookups
        for data in islice(batches, steps):
            for name, trainee in trainees.items():
                times[name].append(timed(lambda t=trainee, d=data: t.step(d)))
        yield times, {"known, %": 100 * (cache.hits - hits) / (cache.lookups - lookups)}


def _reader(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the data set that a run trains on."""
    return config["train_dataloader"]["dataset"]["dataset"]


def random_weights(teacher: dict[str, Any], folder: Path) -> str:
    """Save random weights of a teacher; return where."""
    torch.manual_seed(1)
    model = build_model(teacher)
    model.init_weights()
    weights.save(folder / WEIGHTS, {"state_dict": model.state_dict()})
    return str(folder / WEIGHTS)


if __name__ == "__main__":
    main()
