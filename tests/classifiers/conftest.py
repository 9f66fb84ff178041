"""Fixtures: a tiny project, crops of its objects, and a classifier of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kd.config.classifiers import classifier_run
from kd.config.library import Library
from kd.config.run import ClassifierRun
from tests.support.tiny import make_project

TINY = {
    "title": "tiny",
    "architecture": "shufflenet_v2_x0_5",
    "family": "ssd",
    "loss": "cross_entropy+focal",
    "size": 40,
    "balanced": True,
    "schedule": "classifier-tiny",
}
SCHEDULE = {
    "epochs": 2, "milestones": [1], "warmup_iters": 3, "batch_size": 16, "lr": 0.02,
    "init": "scratch", "checkpoint_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Work in a tiny project with a tiny classifier, without crops."""
    with pytest.MonkeyPatch.context() as patch:
        folder = make_project(tmp_path_factory.mktemp("project"))
        patch.chdir(folder)
        write("schedules/classifier-tiny", SCHEDULE)
        write("classifiers/tiny", TINY)
        yield folder


@pytest.fixture(scope="module")
def compose(project: Path) -> Callable[..., ClassifierRun]:
    """Return a function that composes and writes the tiny classifier's run with changes."""

    def composed(**changes: object) -> ClassifierRun:
        write("classifiers/changed", TINY | changes)
        run = classifier_run("changed", "tiny", "shapes-tiny", 0, Library(), "tests")
        run.write()
        return run

    return composed


@pytest.fixture(scope="module")
def cut(compose: Callable[..., ClassifierRun]) -> ClassifierRun:
    """Return the tiny classifier's run after its crops are made."""
    from kd.classifiers.cutting import build

    run = compose()
    build(run.crops, Library())
    return run


def write(name: str, content: dict) -> None:
    Path(f"configs/{name}.yaml").write_text(yaml.safe_dump(content))
