"""Text of a paper's section on methods, and references in BibTeX, for a study."""

from collections.abc import Iterable, Iterator, Sequence, Set
from importlib import metadata

from analysis.report.overview import environment, split_sizes
from analysis.report.records import RunRecord
from analysis.runs.titles import backbone_name, method_name
from analysis.statistics.seeds import WORTH_FINDING
from analysis.tables.rows import ResultRow
from kd import methods
from kd.common.lists import enumerate_names
from kd.config.library import Library
from kd.config.parts import Schedule, ZooWeights
from kd.config.plan import Plan
from kd.config.run import Run

PACKAGE = "kd-detection"
METRICS = {
    "AP": "AP is the mean over IoU thresholds from 0.50 to 0.95, computed by hotcoco as "
    "pycocotools defines it.",
    "VOC07": "mAP is at IoU 0.50 in the 11-point form of VOC 2007.",
}
"""Definition of each headline metric."""
SPLITS = {"train": "training", "val": "validation"}
"""Splits that a text calls by another name."""
SOFTWARE = """@software{kd_detection,
  title = {kd-detection: reproducible experiments on knowledge distillation for object detection},
  author = {{The kd-detection contributors}},
  version = {%s}
}"""
TOOLBOX = "chen2019mmdetection"
EVALUATION = {"AP": "lin2014microsoft", "VOC07": "everingham2010pascal"}
"""References of the toolbox, and of the definition of each headline metric."""


def paragraph(
    plan: Plan, records: Sequence[RunRecord], rows: Sequence[ResultRow], library: Library
) -> str:
    """Return how the results of a study were computed, for a paper's section on methods."""
    runs = [record.run for record in records if isinstance(record.run, Run)]
    sentences = [
        *_networks(runs, library),
        *(_data(name) for name in dict.fromkeys(run.dataset for run in runs)),
        *(
            _schedule(name, library.schedule(name, "report"))
            for name in dict.fromkeys(run.schedule for run in runs)
        ),
        *_splits(rows),
        *_statistics(rows),
        *_environment(records),
    ]
    return " ".join(sentences)


def _networks(runs: Sequence[Run], library: Library) -> Iterator[str]:
    names = list(dict.fromkeys(run.method for run in runs if run.method))
    detectors = dict.fromkeys(library.detector(run.detector, "report").title for run in runs)
    students = dict.fromkeys(backbone_name(run.student, library) for run in runs if run.teacher)
    teachers = [run.teacher for run in runs if run.teacher]
    teacher_names = dict.fromkeys(backbone_name(run.student, library) for run in teachers)
    if names:
        titles = enumerate_names(method_name(name, library) for name in names)
        yield f"We distilled {enumerate_names(detectors)} with {titles}."
    if teacher_names:
        yield f"Teachers had the backbone {_or(teacher_names)}, students {_or(students)}."
    yield from _teacher_seeds({(run.seed, run.teacher.seed) for run in runs if run.teacher})


def _teacher_seeds(seeds: Set[tuple[int, int]]) -> Iterator[str]:
    """Yield a sentence on the teachers of several seeds; ``seeds``: of students and teachers."""
    if len({student for student, _ in seeds}) < 2:
        return
    if all(student == teacher for student, teacher in seeds):
        yield "The student of each seed learned from the teacher of the same seed."
    elif len({teacher for _, teacher in seeds}) == 1:
        yield "The students of all seeds learned from one teacher."


def _data(name: str) -> str:
    sizes = [
        f"{images:,} {SPLITS.get(split, split)} images with {boxes:,} boxes"
        for split, images, boxes in split_sizes(name)
    ]
    if not sizes:
        return f"The data set was {name}."
    return f"Data set {name} has {enumerate_names(sizes)}."


def _splits(rows: Sequence[ResultRow]) -> Iterator[str]:
    if tables := dict.fromkeys(row.table for row in rows if row.split == "val"):
        yield f"Measured on validation images: {enumerate_names(tables)}."
    elif any(row.early_split == "test" for row in rows):
        yield "No validation images were held out."


def _start(init: str | ZooWeights) -> str:
    if isinstance(init, ZooWeights):
        return f"{init.zoo} of mmdet's model zoo"
    return "ImageNet weights" if init == "imagenet" else "random weights"


def _schedule(name: str, schedule: Schedule) -> str:
    start = _start(schedule.init)
    clipped = f", gradients clipped at norm {schedule.clip_grad:g}" if schedule.clip_grad else ""
    nesterov = " with Nesterov's momentum" if schedule.nesterov else ""
    undecayed = "" if schedule.decay_norm_and_bias else " (none of normalization and biases)"
    return (
        f"Schedule {name} trained from {start} for {schedule.epochs} epochs with "
        f"{schedule.optimizer}{nesterov}, batch size {schedule.batch_size}, learning rate "
        f"{schedule.learning_rate:g}{_drops(schedule)}, {_warm_up(schedule)}, weight decay "
        f"{schedule.weight_decay:g}{undecayed}{clipped} and {schedule.precision} precision."
        f"{_stages(schedule)}"
    )


def _drops(schedule: Schedule) -> str:
    if schedule.cosine_from is not None:
        end = schedule.epochs - (schedule.constant_epochs or 0)
        return (
            f", falling as a cosine to {schedule.learning_rate * schedule.cosine_to:g} from "
            f"epoch {schedule.cosine_from} to {end}"
        )
    steps = [str(epoch) for epoch in schedule.milestones]
    return f", divided by 10 after {enumerate_names(steps)} epochs" if steps else ""


def _warm_up(schedule: Schedule) -> str:
    if schedule.warmup_epochs:
        return f"a quadratic warm-up of {schedule.warmup_epochs} epochs"
    return f"a linear warm-up of {schedule.warmup_iters} steps"


def _stages(schedule: Schedule) -> str:
    """Return sentences on averaged weights and the last stage."""
    text = ""
    if schedule.ema:
        text += (
            " The weights are an exponential moving average of those of all steps, with momentum "
            f"{schedule.ema:g}."
        )
    if schedule.unmixed_epochs:
        text += f" The last {schedule.unmixed_epochs} epochs mixed no images."
    return text


def _statistics(rows: Sequence[ResultRow]) -> Iterator[str]:
    seeds = sorted({row.seeds_planned for row in rows if row.kind == "distilled"})
    if seeds:
        counts = enumerate_names(seeds)
        plural = "s" * (seeds != [1])
        yield f"Each distilled student was trained with {counts} seed{plural}."
        yield "A gain is the difference to the baseline of the same seed."
    gains = [row.gain for row in rows if row.gain]
    if any(gain.simultaneous for gain in gains):
        yield (
            "Intervals are simultaneous 95 % intervals of all gains of a table (Dunnett), from a "
            "two-way model of row and seed. Each spans the intervals by a pooled and by a "
            "moderated variance."
        )
        yield (
            f"A gain is called no gain worth half a point if two one-sided t tests at "
            f"{WORTH_FINDING} AP reject larger ones, corrected by Holm's method."
        )
    if any(gain.over_images and not gain.simultaneous for gain in gains):
        yield (
            "Intervals are 95 % percentile intervals over 1,000 resamples of the test images; "
            "they exclude the variation between seeds."
        )
    yield from (METRICS[name] for name in dict.fromkeys(row.metric for row in rows))


def _environment(records: Sequence[RunRecord]) -> Iterator[str]:
    parts = dict(environment(records))
    commits, hardware = parts.pop("Commit", {}), parts.pop("Hardware", {})
    software = [f"{name} {enumerate_names(values)}" for name, values in parts.items()]
    if commits:
        software.append(f"the code of commit {enumerate_names(text[:10] for text in commits)}")
    if software:
        yield f"We used {enumerate_names(software)}."
    if hardware:
        yield f"Hardware: {enumerate_names(hardware)}."


def _or(words: Iterable[str]) -> str:
    """Return words as alternatives."""
    return " or ".join(words)


def bibtex(plan: Plan, library: Library) -> str:
    """Return the BibTeX of a study's papers, its methods, the toolbox and this project."""
    rows = plan.rows
    presets = library.presets
    terms = [term for row in rows if row.kind == "distilled" for term in row.method.split("+")]
    names = [presets[term].method if term in presets else term for term in terms]
    metrics = dict.fromkeys(row.metric for row in rows)
    keys = [
        *plan.study.cite,
        *(methods.get(name).cite for name in names),
        TOOLBOX,
        *(EVALUATION[metric] for metric in metrics),
    ]
    entries = [library.reference(key, "report") for key in dict.fromkeys(filter(None, keys))]
    return "\n\n".join([*entries, SOFTWARE % metadata.version(PACKAGE)])
