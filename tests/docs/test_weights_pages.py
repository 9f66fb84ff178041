"""The files and the code in the pages on own data and on weights work as documented."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from kd.config.composed import MMDET_CONFIG
from kd.config.library import Library
from kd.config.plan import plan
from kd.training.train import train
from tests.support.paths import CONFIGS, REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "use-weights.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TUTORIAL = (REPOSITORY / "docs/tutorials/own-data.md").read_text(encoding="utf-8")
FILES = re.findall(r"Create `(configs/\S+\.yaml)`.*?```yaml\n(.*?)```", TUTORIAL, re.DOTALL)


@pytest.fixture
def trained(study):
    """Return a student that was trained for a few steps, with its low scores not filtered."""
    run = next(run for run in study(["pfi"]).runs.values() if run.teacher)
    run.write()
    train(run.directory)
    config = run.directory / MMDET_CONFIG
    config.write_text(config.read_text().replace("'score_thr': 0.05", "'score_thr': 0.0"))
    return run


def test_the_code_prints_detections_with_the_names_of_the_data(
    trained, shapes_root, capsys, recwarn
):
    assert CODE.startswith("from mmdet.apis import ")
    image = next((shapes_root / "test").iterdir())
    code = re.sub(r'run = ".*"', f'run = "{trained.directory}"', CODE)
    code = re.sub(r'"data/.*\.png"', f'"{image}"', code).replace("score > 0.3", "score > 0")
    capsys.readouterr()
    exec(compile(code, "use-weights.md", "exec"), {})
    printed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("]")]
    assert len(printed) > 1
    assert {line.split()[0] for line in printed} <= {*trained.composed.class_names}
    assert [str(one.message) for one in recwarn if "COCO classes" in str(one.message)] == []


def test_the_keys_of_the_weights_are_those_of_the_table(trained):
    content = torch.load(trained.directory / "weights.pth", weights_only=True)
    table = PAGE.split("| key |")[1].split("\n\n")[0]
    documented = {name.split(".")[0] for name in re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)}
    assert documented == content.keys()


def test_the_files_of_the_tutorial_plan_the_rows_that_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CONFIGS, "configs")
    assert [Path(path).parent.name for path, _ in FILES] == ["datasets", "schedules", "studies"]
    for path, content in FILES:
        Path(path).write_text(content)
    planned = plan("cells", "laptop", Library(Path("configs")))
    printed = re.findall(r"^(first/\S+) +1 +0 ", TUTORIAL, re.MULTILINE)
    assert [row.key for row in planned.rows] == printed
    assert set(re.findall(r'run = "results/runs/(.*)"', TUTORIAL)) <= {*planned.runs}


def test_the_code_of_the_tutorial_is_that_of_the_page_on_weights() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    plain = [re.sub(r'"(results|data)/[^"]+"', "PATH", text) for text in (code, CODE)]
    assert plain[0] == plain[1]
