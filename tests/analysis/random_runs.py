"""Runs with random weights, for analyses that load networks."""

from pathlib import Path

from kd.config.plan import Plan
from tests.support.tiny_detectors import save_random_weights


def write_runs(plan: Plan, adapters: bool = False) -> tuple[Path, list[Path]]:
    """Write the runs of a plan with one teacher; return its directory and the others'.

    ``adapters``: add the freshly initialized layers of methods to the weights of distilled runs, as
    trained runs have them.
    """
    for run in plan.runs.values():
        run.write()
        config = run.config["model"]
        save_random_weights(config.get("student", config), run.directory)
    if adapters:
        for run in plan.runs.values():
            add_adapters(run.directory)
    (teacher,) = {run.teacher.directory for run in plan.runs.values() if run.teacher}
    return teacher, [run.directory for run in plan.runs.values() if run.directory != teacher]


def add_adapters(directory: Path) -> None:
    """Add the freshly initialized layers of a run's methods to its weights."""
    from analysis.figures.networks import RunNetworks
    from kd.config.compose import WEIGHTS
    from kd.models import weights

    path = directory / WEIGHTS
    model = RunNetworks.load(directory).model
    if hasattr(model, "adapters"):
        weights.save(path, weights.read(path) | {"adapters": model.adapters.state_dict()})
