"""What a plan will take: images now, hours once a run like it has been measured."""

from kd.data.readers import read_split
from kd.errors import UserError
from kd.files import read_json
from kd.settings.classifiers import ClassifierRun
from kd.settings.library import Library
from kd.settings.plan import Plan
from kd.settings.run import Run

PUBLISHED_IMAGES = {"coco2017": 118_287, "voc0712": 16_551}
"""Training images of data sets that may be absent when the plan is made."""


def describe(plan: Plan, library: Library) -> str:
    """Return the runs of a plan, one line each: name, images to train on, hours measured."""
    lines, hours, unmeasured = [], 0.0, 0
    runs: dict[str, Run | ClassifierRun] = {**plan.classifiers, **plan.runs}
    for name, run in runs.items():
        images, spent = _images(run, library), _hours(run)
        hours, unmeasured = hours + (spent or 0.0), unmeasured + (spent is None)
        seen = "images unknown" if images is None else f"{images:>12,} images"
        lines.append(f"{seen}  {'not measured' if spent is None else f'{spent:9.2f} h'}  {name}")
    lines.append(f"{len(runs)} runs; {hours:.2f} h measured, {unmeasured} runs not measured yet")
    return "\n".join(lines)


def _images(run: Run | ClassifierRun, library: Library) -> int | None:
    """Return images seen in training: epochs times the training split; unknown for crops."""
    if isinstance(run, ClassifierRun):
        return None
    epochs = run.config.get("train_cfg", {}).get("max_epochs", 0)
    entry = library.dataset(run.dataset, "plan")
    if entry.generate:
        return epochs * entry.generate.train
    if run.dataset in PUBLISHED_IMAGES:
        return epochs * PUBLISHED_IMAGES[run.dataset]
    try:
        return epochs * len(read_split(entry, "train").coco["images"])
    except UserError:
        return None


def _hours(run: Run | ClassifierRun) -> float | None:
    path = run.directory / "provenance.json"
    return read_json(path).get("seconds", 0.0) / 3600 if path.exists() else None
