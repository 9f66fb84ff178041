"""Plans at paper scale, the resource requests of their trainings, and finished trainings."""

from typing import Any

from kd.common.files import write_json
from kd.config.run import Run
from kd.resources.requests import ResourceRequest
from kd.workflow.workflow import Workflow

IMAGES = 12 * 118_287
"""Images of a training with schedule 1x on COCO."""


def workflow(study: str = "demo", scale: str = "paper", **changes: Any) -> Workflow:
    config = {"study": study, "scale": scale, "seeds": None, "tables": None}
    return Workflow.read({**config, "max_runtime": 10_000, **changes})


def run_named(planned: Workflow, text: str) -> Run:
    (run,) = (run for name, run in planned.runs.items() if f"/{text}/" in name)
    return run


def training_request(text: str, **changes: Any) -> ResourceRequest:
    planned = workflow(**changes)
    return planned.training(run_named(planned, text).name)


def finish(run: Run, seed: int = 1, gpus: int = 1, **record: Any) -> None:
    """Write the records of a finished training of another seed."""
    directory = run.directory.parent / f"seed{seed}-00000000"
    write_json(directory / "run.json", run.identity | {"seed": seed})
    write_json(directory / "config.json", run.config)
    usage = {"seconds": 3600.0, "gpu_seconds": 3600.0 * gpus, "threads": 1}
    write_json(directory / "provenance.json", usage | record)
