"""Time a training step of each method against the bare student's, on one detector.

python benchmarks/step_time.py --detector retinanet

The table is written to results/benchmarks, where `python -m analysis.readme` finds it.

Teacher and student are those of the RM/PFI study's pair at the given scale, with random weights, on
the first images of the training set. All models live in one process; each round steps every one of
them once, in turn, so that a busy machine slows all alike. Ratios are of medians over rounds.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

import kd.runtime  # noqa: F401
from kd import weights
from kd.data.loading import build, seed_everything
from kd.data.shapes import generate
from kd.files import write_text
from kd.observation import Progress
from kd.settings.classifiers import compose_classifier
from kd.settings.compose import WEIGHTS, compose
from kd.settings.library import Library
from kd.settings.matrix import matrix
from kd.settings.methods import resolve, teachers
from kd.settings.parts import Scale
from kd.settings.run import RESULTS, Run

PAST_WARM_UP = Progress(step=10_000, epoch=0, epochs=12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", default="retinanet")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--methods", nargs="+", help="default: every method, no preset")
    options = parser.parse_args()
    MMLogger.get_instance("benchmark", log_level="ERROR")
    init_default_scope("mmdet")
    torch.set_num_threads(1)
    library = Library()
    with tempfile.TemporaryDirectory() as folder:
        models, data = _prepare(options, library, Path(folder))
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_number in range(options.rounds + 1):
        for name, model in models.items():
            seconds = _step(model, data)
            if round_number:  # the first is for caches and allocators
                times[name].append(seconds)
        print(f"round {round_number}/{options.rounds}", flush=True)
    text = _table(times, options)
    write_text(RESULTS / "benchmarks" / f"step_time-{options.detector}.md", text)
    print(text)


def _prepare(
    options: argparse.Namespace, library: Library, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the bare student and a distiller for each method, and a batch."""
    scale = library.scale(options.scale, "benchmark")
    run = _run(options, scale, library)
    taught_by = Run(**{**_names(run), "student": scale.backbones.get("r50", "r50")})
    teacher = compose(taught_by, {}, scale, library, "benchmark")
    torch.manual_seed(1)
    random = MODELS.build(ConfigDict(teacher["model"], _scope_="mmdet"))
    random.init_weights()
    weights.save(folder / WEIGHTS, {"state_dict": random.state_dict()})
    bare = compose(run, {}, scale, library, "benchmark")
    models = {"student alone": _model(bare["model"])}
    for method in options.methods or _applying(options.detector, library):
        terms = resolve(method, {}, options.detector, library, "benchmark")
        if "classifier" in teachers(terms):
            config = _classifier(folder, run.dataset, scale, library)
        else:
            config = {"teacher": teacher["model"], "checkpoint": str(folder / WEIGHTS)}
        distiller = {"type": "Distiller", "student": bare["model"], "methods": terms}
        models[method] = _model({**distiller, **config})
    return models, _batch(bare, library, run.dataset, options.batch)


def _run(options: argparse.Namespace, scale: Scale, library: Library) -> Run:
    return Run(
        scale=options.scale,
        dataset=scale.datasets.get("coco2017", "coco2017"),
        schedule=scale.schedules.get("1x", "1x"),
        detector=options.detector,
        student=scale.backbones.get("r18", "r18"),
        seed=0,
    )


def _names(run: Run) -> dict[str, Any]:
    return {
        name: getattr(run, name) for name in ("scale", "dataset", "schedule", "detector", "seed")
    }


def _applying(detector: str, library: Library) -> list[str]:
    """Return the methods that apply to a detector, without presets."""
    presets = library.names("methods")
    cells = matrix(library)
    return [name for name, row in cells.items() if not row[detector] and name not in presets]


def _classifier(folder: Path, dataset: str, scale: Scale, library: Library) -> dict[str, Any]:
    """Return a classifier teacher of random weights."""
    name = scale.classifiers.get("r50", "r50")
    config = compose_classifier(name, dataset, 0, library, "benchmark")["model"]
    weights.save(folder / "c.pth", {"state_dict": MODELS.build(config).state_dict()})
    return {"classifier": config, "classifier_checkpoint": str(folder / "c.pth")}


def _model(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(copy.deepcopy(config), _scope_="mmdet"))
    model.init_weights()
    model.progress = PAST_WARM_UP
    return model.train()


def _batch(config: dict[str, Any], library: Library, name: str, size: int) -> dict[str, Any]:
    entry = library.dataset(name, "benchmark")
    if entry.generate and not (Path(entry.root) / "generated.json").exists():
        generate(entry.generate, Path(entry.root))
    dataset = build(config["train_dataloader"]["dataset"])
    return pseudo_collate([dataset[index] for index in range(size)])


def _step(model: Any, data: dict[str, Any]) -> float:
    """Return the seconds of one step: forward, loss and gradients, and the optimiser's."""
    seed_everything(0)
    if not hasattr(model, "optimiser"):
        model.optimiser = torch.optim.SGD(model.parameters(), lr=1e-6)
    started = time.perf_counter()
    batch = model.data_preprocessor(copy.deepcopy(data), training=True)
    loss, _ = model.parse_losses(model(**batch, mode="loss"))
    model.optimiser.zero_grad()
    loss.backward()
    model.optimiser.step()
    return time.perf_counter() - started


def _table(times: dict[str, list[float]], options: argparse.Namespace) -> str:
    medians = {name: statistics.median(each) for name, each in times.items()}
    bare = medians["student alone"]
    lines = [
        f"{options.detector}, scale {options.scale}, batches of {options.batch}, one thread; "
        f"medians of {options.rounds} rounds.",
        "",
    ]
    lines += ["| method | median step, ms | times the bare student's |", "|---|---|---|"]
    lines += [f"| {name} | {1000 * m:.0f} | {m / bare:.2f} |" for name, m in medians.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
