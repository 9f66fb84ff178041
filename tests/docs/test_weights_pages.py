"""The code in the page on weights works as documented."""

import re

import pytest
import torch

from kd.config.composed import MMDET_CONFIG
from kd.training.train import train
from tests.support.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "how-to" / "use-weights.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


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
