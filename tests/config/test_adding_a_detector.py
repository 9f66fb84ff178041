"""The files in docs/how-to/add-detector.md train as documented."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml

from kd.common.errors import UserError
from kd.config.applicability import matrix
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.training.train import train
from tests.support.paths import REPOSITORY
from tests.support.tiny_detectors import save_random_weights

PAGE = (REPOSITORY / "docs" / "how-to" / "add-detector.md").read_text()
DETECTOR, ON_BACKBONE, SMALL_DETECTOR, BACKBONE, SMALL_BACKBONE, STUDY = (
    textwrap.dedent(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
)


@pytest.fixture
def added(study) -> Plan:
    """Write the page's files into a project with tiny images, and plan the page's study."""
    Path("configs/detectors/fsaf.yaml").write_text(DETECTOR)
    Path("configs/backbones/x50.yaml").write_text(BACKBONE)
    Path("configs/studies/fsaf.yaml").write_text(STUDY)
    scale = {
        "title": "tiny",
        "datasets": {"coco2017": "tiny"},
        "schedules": {"1x": "tiny"},
        "backbones": yaml.safe_load(SMALL_BACKBONE) | {"r18": "r18-w0.25"},
        "detectors": yaml.safe_load(SMALL_DETECTOR),
    }
    Path("configs/scales/tiny.yaml").write_text(yaml.safe_dump(scale))
    return plan("fsaf", "tiny", Library(Path("configs")))


def test_the_example_of_settings_by_backbone_is_that_of_rtmdet() -> None:
    example = yaml.safe_load(ON_BACKBONE)["backbones"]["cspnext-s"]["model"]
    settings = Library().detector("rtmdet", "test").on("cspnext-s").model
    assert all(settings[part].items() >= changes.items() for part, changes in example.items())


def test_methods_apply_by_what_the_head_offers(added: Plan) -> None:
    row = {name: cells["fsaf"] for name, cells in matrix(Library(Path("configs"))).items()}
    assert not any(row[name] for name in ("fitnets", "defeat", "fkd"))
    assert "with FSAFHead" in row["fgfi"]


def test_a_distilled_student_trains_with_the_new_detector_and_backbone(added: Plan) -> None:
    (run,) = [run for run in added.runs.values() if run.method == "fitnets"]
    teacher = added.runs[run.teacher.name]
    assert teacher.config["model"]["backbone"]["base_width"] == 2
    save_random_weights(teacher.config["model"], teacher.directory)
    run.write()
    train(run.directory)
    assert '"loss_fitnets"' in (run.directory / "log.jsonl").read_text()


def test_a_scale_without_a_stand_in_names_what_is_missing(added: Plan) -> None:
    scale = Path("configs/scales/tiny.yaml")
    scale.write_text(scale.read_text().replace("x50: x50-w0.5", "r50: r18"))
    with pytest.raises(UserError, match="x50"):
        plan("fsaf", "tiny", Library(Path("configs")))
