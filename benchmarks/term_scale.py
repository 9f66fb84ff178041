"""Loss and gradient of each term beside those of detection, in the first epoch of a training.

python benchmarks/term_scale.py rm rm_score pfi            RetinaNet at scale mini
python benchmarks/term_scale.py soft_labels tadf --detector faster_rcnn
python benchmarks/term_scale.py dicod,pixel_unit=normalized --teacher-schedule 3x

A name may have settings after commas. The teachers have to be trained: the command names what is
missing and the training that makes it. A method that is silent in the first steps, as FGFI, has no
line. About two minutes for each method on a CPU thread.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import kd.runtime  # noqa: F401
from benchmarks.report import FOLDER, processor
from kd.common.errors import UserError
from kd.common.files import write_json
from kd.common.schema import parse_assignments
from kd.config.library import Library
from kd.config.plan import _Planner
from kd.config.run import Run
from kd.config.selection import StudyOptions
from kd.config.study_parts import Study
from kd.methods.base import DETECTION_TERM
from kd.training.loop import bare
from kd.training.train import build_runner

STEPS = 25
"""Steps from one probe to the next."""


class Ratio(NamedTuple):
    """A term beside detection at a probe."""

    loss: float
    gradient: float


class _EpochDoneError(Exception):
    """The steps to be measured are made."""


@HOOKS.register_module()
class TermProbe(Hook):
    """Keeps each term's loss and gradient beside those of detection, every ``STEPS`` steps."""

    probes: list[dict[str, Ratio]]

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        bare(runner.model).probing = (runner.iter + 1) % STEPS == 0

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        model = bare(runner.model)
        if model.probing:
            TermProbe.probes.append(ratios(outputs, model.probed, model.distilled))
        if batch_idx + 1 == len(runner.train_dataloader):
            raise _EpochDoneError


def ratios(
    outputs: dict[str, Any], norms: dict[str, list[float]], terms: tuple[str, ...]
) -> dict[str, Ratio]:
    """Return each term's loss and gradient over those of detection, and ``sum`` of all terms.

    The gradient of ``sum`` is the sum of the norms, an upper bound of the norm of the sum.
    """
    losses = {name: float(outputs[name]) for name in terms}
    detection = float(outputs["loss"]) - sum(losses.values())
    whole = _norm(norms[DETECTION_TERM])
    by_term = {name: Ratio(losses[name] / detection, _norm(norms[name]) / whole) for name in terms}
    total = Ratio(*(sum(column) for column in zip(*by_term.values(), strict=True)))
    return by_term if len(by_term) == 1 else {**by_term, "sum": total}


def _norm(levels: list[float]) -> float:
    return float(torch.tensor(levels).norm())


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="+", help="names of methods, with settings after commas")
    parser.add_argument("--detector", default="retinanet")
    parser.add_argument("--scale", default="mini")
    parser.add_argument("--teacher-schedule", default="1x")
    parser.add_argument("--name", default="term_scale", help="name of the file of results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    try:
        for text in options.methods:
            for term, ratio in measured(text, options).items():
                row = {"detector": options.detector, "method": text, "term": term}
                rows.append({**row, "loss": ratio.loss, "gradient": ratio.gradient})
                print(line(rows[-1]), flush=True)
    except UserError as error:
        sys.exit(f"error: {error}")
    about = {"processor": processor(), "scale": options.scale, "steps between probes": STEPS}
    write_json(FOLDER / f"{options.name}-{options.detector}.json", {**about, "lines": rows})


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    figures = f"{row['loss']:.2g} | {row['gradient']:.2g}"
    return f"| {row['detector']} | `{row['method']}` | {row['term']} | {figures} |"


def measured(text: str, options: argparse.Namespace) -> dict[str, Ratio]:
    """Return the medians over the first epoch's probes, by term."""
    name, *settings = text.split(",")
    run = composed(name, parse_assignments(settings), options)
    _check(run)
    config = {**run.config, "custom_hooks": list(_hooks(run.config))}
    TermProbe.probes = []
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(config, Path(folder) / "run")
        with suppress(_EpochDoneError):
            runner.train()
    medians = {}
    for term in TermProbe.probes[0]:
        probes = [probe[term] for probe in TermProbe.probes]
        medians[term] = Ratio(*(statistics.median(c) for c in zip(*probes, strict=True)))
    return medians


def _hooks(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the hooks of a training that change its weights, and the probe."""
    yield from (hook for hook in config["custom_hooks"] if hook["type"] == "SeedEachStep")
    yield {"type": "TermProbe"}


def composed(name: str, settings: dict[str, Any], options: argparse.Namespace) -> Run:
    """Return the run of a method on the pair of study ``ours``."""
    table: dict[str, Any] = {
        "title": "terms",
        "dataset": "coco2017",
        "schedule": "1x",
        "detectors": [options.detector],
        "pairs": [{"teacher": "r50", "student": "r18"}],
        "methods": [name],
        "settings": {name: settings} if settings else {},
        "classifiers": {"general": "r50", "ssd": "r50-ssd"},
    }
    if options.teacher_schedule != "1x":
        table["pairs"][0]["teacher_schedule"] = options.teacher_schedule
    study = Study.parse(
        {"title": "terms", "source": "none", "tables": {"terms": table}}, "benchmark"
    )
    planner = _Planner("term_scale", study, options.scale, Library(), StudyOptions(seeds=1))
    (run,) = next(row for row in planner.table("terms") if row.kind == "distilled").runs.values()
    return run


def _check(run: Run) -> None:
    """Write what teaches the run; UserError where it is not trained yet."""
    for taught in (run.teacher, run.classifier):
        if taught is None:
            continue
        taught.write()
        if not (taught.directory / "weights.pth").exists():
            raise UserError(
                f"{taught.directory}/weights.pth: no such file; it teaches {run.method}, so make "
                f"it first: `snakemake {taught.directory}/weights.pth --config study=ours "
                f"scale={run.scale}`, or `kd train {taught.directory}`"
            )


if __name__ == "__main__":
    main()
