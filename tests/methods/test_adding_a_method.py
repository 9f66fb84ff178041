"""The code in docs/how-to/add-method.md runs as documented."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import kd.methods
import kd.methods.features
from kd.config.applicability import describe, matrix
from kd.config.library import Library
from kd.training.train import train
from tests.support.paths import CONFIGS, REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "add-method.md").read_text()
METHOD, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ROW, PRESET = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Write the page's method into a folder of methods."""
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "at.py").write_text(METHOD)
    paths = [*kd.methods.features.__path__, str(folder)]
    monkeypatch.setattr(kd.methods.features, "__path__", paths)
    kd.methods.names.cache_clear()
    kd.methods.get.cache_clear()
    yield
    sys.modules.pop("kd.methods.features.at", None)
    if hasattr(kd.methods.features, "at"):
        del kd.methods.features.at
    kd.methods.names.cache_clear()
    kd.methods.get.cache_clear()


def test_the_file_is_found_and_applies_to_every_detector(added):
    row = matrix(Library(CONFIGS))["at"]
    assert row and not any(row.values())
    assert re.search(r"^at +Neck maps, .* all$", describe(Library(CONFIGS)), re.MULTILINE)


def test_its_tests_pass(added):
    module: dict[str, object] = {}
    exec(compile(TEST, "test_at.py", "exec"), module)
    functions = [value for name, value in module.items() if name.startswith("test_")]
    assert len(functions) == 2
    for test in functions:
        test()


def test_its_preset_is_a_name_that_a_study_may_use(added, study):
    Path("configs/presets/at.yaml").write_text(PRESET)
    (run,) = [run for run in study(["at_peaks"]).runs.values() if run.method]
    assert run.config["model"]["methods"]["at_peaks"]["power"] == 4.0


def test_its_row_is_planned_and_trains(added, study):
    row = yaml.safe_load(ROW)
    plan = study(row["methods"], row["settings"])
    (run,) = [run for run in plan.runs.values() if run.method == "at"]
    run.write()
    train(run.directory)
    last = (run.directory / "log.jsonl").read_text().splitlines()[-1]
    assert '"loss_at"' in last
    assert run.config["model"]["methods"]["at"]["power"] == 1.0
