"""The files in docs/tutorials/own-data.md plan the runs that the page prints."""

import re
import shutil
from pathlib import Path

import pytest

from kd.config.library import Library
from kd.config.plan import plan
from tests.support.paths import CONFIGS, REPOSITORY

PAGE = (REPOSITORY / "docs/tutorials/own-data.md").read_text(encoding="utf-8")
FILES = re.findall(r"Create `(configs/\S+\.yaml)`.*?```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_files_of_the_page_plan_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIGS, "configs")
    assert [Path(path).parent.name for path, _ in FILES] == ["datasets", "schedules", "studies"]
    for path, content in FILES:
        Path(path).write_text(content)
    runs = plan("cells", "laptop", Library(Path("configs")), seeds=1).runs
    printed = re.findall(r"^\d+ images .* (laptop/\S+)$", PAGE, re.MULTILINE)
    assert [*runs] == printed


def test_the_code_is_that_of_the_page_on_weights() -> None:
    other = (REPOSITORY / "docs/how-to/use-weights.md").read_text(encoding="utf-8")
    codes = [re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0] for text in (PAGE, other)]
    ours, theirs = (re.sub(r'"(results|data)/[^"]+"', "PATH", code) for code in codes)
    assert ours == theirs
