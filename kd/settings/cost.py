"""What a plan will take: images, hours measured, and hours expected of what has not been run."""

from kd.files import read_json
from kd.settings.demand import Demands
from kd.settings.library import Library
from kd.settings.plan import Plan
from kd.settings.work import Training
from kd.settings.workflow import Request


def describe(plan: Plan, library: Library) -> str:
    """Return the runs of a plan, one line each: images to train on, hours, name."""
    runs: dict[str, Training] = {**plan.classifiers, **plan.runs}
    demands = Demands(Request.read(library.root / "default.yaml"), plan.scale, library)
    demands.check(runs.values())
    spent = {name: _hours(run) for name, run in runs.items()}
    expected = {name: demands.hours(run) for name, run in runs.items() if spent[name] is None}
    lines = []
    for name, run in runs.items():
        images = demands.rates.work.images(run)
        seen = "images unknown" if images is None else f"{images:>12,} images"
        lines.append(f"{seen}  {_shown(spent[name], expected.get(name))}  {name}")
    measured = sum(hours for hours in spent.values() if hours is not None)
    estimates = [hours for hours in expected.values() if hours is not None]
    parts = [f"{len(runs)} runs", f"{measured:.2f} h measured"]
    if expected:
        parts.append(f"about {sum(estimates):.2f} h estimated for {len(estimates)} runs to come")
    if len(estimates) < len(expected):
        parts.append(f"{len(expected) - len(estimates)} runs that nothing is known of")
    gpu_hours = sum(map(_gpu_hours, runs.values())) + demands.gpus * sum(estimates)
    return "\n".join([*lines, f"{'; '.join(parts)}; {gpu_hours:.2f} GPU hours in all"])


def _shown(spent: float | None, expected: float | None) -> str:
    if spent is not None:
        return f"{spent:9.2f} h measured"
    return " " * 13 + "unknown " if expected is None else f"{expected:9.2f} h estimate"


def _hours(run: Training) -> float | None:
    return _recorded(run, "seconds")


def _gpu_hours(run: Training) -> float:
    return _recorded(run, "gpu_seconds") or 0.0


def _recorded(run: Training, key: str) -> float | None:
    path = run.directory / "provenance.json"
    return read_json(path).get(key, 0.0) / 3600 if path.exists() else None
