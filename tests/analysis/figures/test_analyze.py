"""`kd figures`: the files that it writes, the caption, and messages on mistakes."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from analysis import figures
from analysis.figures.columns import COLUMNS
from analysis.plotting import alt_text
from analysis.plotting.style import STYLE
from analysis.tables.comparability import OTHER_DATA
from kd.cli.main import main
from kd.common.files import read_json, write_json
from tests.analysis.fakes import write_metrics, write_run
from tests.support.tiny import make_project

TO = Path("figure")


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return three runs of a sweep in a project without images."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    directories = []
    for weight, ap in ((1.0, 0.2), (2.0, 0.3), (4.0, 0.25)):
        run = write_run(Path(f"runs/weight{weight}"), {"rm": {"method": "rm", "weight": weight}})
        write_metrics(run, ap)
        directories.append(str(run))
    return directories


def analyze(*arguments: str) -> int:
    return main(["figures", *arguments, "--to", str(TO)])


def test_it_writes_the_files_that_it_declares(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze("ablation", *runs) == 0
    declared = set(figures.get("ablation").files())
    assert {path.name for path in TO.iterdir()} == declared
    assert {Path(line).name for line in capsys.readouterr().out.split()} == declared
    assert (TO / "ablation.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(TO / "ablation.png") as picture:
        assert picture.width > 600
    assert list(pd.read_csv(TO / "ablation.csv")["mean"].head(3)) == [20, 30, 25]


def test_an_analysis_must_declare_and_describe_its_files(
    runs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(COLUMNS, "ablation")
    assert analyze("ablation", *runs) == 2
    error = capsys.readouterr().err
    assert "analysis/figures/columns.py: the columns of 'ablation' must be" in error
    monkeypatch.setattr(figures.get("ablation"), "pictures", ("ablations",))
    assert analyze("ablation", *runs) == 2
    assert "ablation/analysis.py: 'pictures' declares ['ablations']" in capsys.readouterr().err


def test_the_caption_has_title_definition_settings_and_runs(runs: list[str]) -> None:
    assert analyze("ablation", *runs, "--set", "metric=AP50") == 0
    caption = (TO / "caption.md").read_text()
    kind = figures.get("ablation")
    assert caption.startswith(f"# {kind.title}\n")
    assert kind.definition() in caption
    assert "metric AP50" in caption
    for run in runs:
        assert f"`{run}`" in caption


def test_the_caption_states_the_epoch_of_an_unfinished_training(runs: list[str]) -> None:
    config = read_json(Path(runs[0], "config.json"))
    train_cfg = {"max_epochs": 12, "stop_epoch": 2}
    write_json(Path(runs[0], "config.json"), config | {"train_cfg": train_cfg})
    assert analyze("ablation", *runs) == 0
    assert f" (after 2 of 12 epochs): `{runs[0]}`" in (TO / "caption.md").read_text()


def test_the_caption_states_which_runs_cannot_be_compared(runs: list[str]) -> None:
    assert analyze("ablation", *runs) == 0
    assert "compared" not in (TO / "caption.md").read_text()
    for number, run in enumerate(runs):
        record = {"data": f"fingerprint {number}"}
        write_json(Path(run) / "provenance.json", {"inputs": record})
    assert analyze("ablation", *runs) == 0
    caption = (TO / "caption.md").read_text()
    assert caption.endswith(f"Not all of these runs can be compared:\n\n- {OTHER_DATA}\n")


def test_equal_runs_give_equal_files(runs: list[str]) -> None:
    assert analyze("ablation", *runs) == 0
    first = {path.name: path.read_bytes() for path in TO.iterdir()}
    assert analyze("ablation", *runs) == 0
    assert {path.name: path.read_bytes() for path in TO.iterdir()} == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablations"], "no analysis 'ablations'; did you mean 'ablation'"),
        (["ablation", "--set", "metrik=AP"], "unknown key 'metrik'; did you mean 'metric'"),
        (["ablation", "--set", "metric"], "'metric': write it as KEY=VALUE"),
        (["ablation", "--set", "metric=[AP"], "'metric=[AP': the value is not valid YAML"),
        (["ablation", "--set", "confidence=2"], "key 'confidence'"),
    ],
)
def test_a_mistake_is_reported_in_one_line(
    runs: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = arguments
    assert analyze(name, *runs, *rest) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert message in errors
    assert not TO.exists()


def test_an_unfinished_run_is_named(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(runs[1], "metrics.json").unlink()
    assert analyze("ablation", *runs) == 2
    line = f"{runs[1]}/metrics.json: no such file; write it with `kd evaluate {runs[1]}`"
    assert line in capsys.readouterr().err


def test_without_runs_analyses_are_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == figures.names()
    assert lines[0].endswith(figures.get("ablation").question)
    assert main(["figures", "ablation"]) == 0
    description = capsys.readouterr().out
    assert figures.get("ablation").definition() in description
    assert "  confidence: 0.95\n      Confidence of the intervals." in description
    assert "ablation.pdf" in description


@pytest.mark.parametrize("command", ["figures", "analyze", "analyse"])
def test_the_default_folder_is_named_after_the_analysis(runs: list[str], command: str) -> None:
    assert main([command, "ablation", *runs]) == 0
    assert Path("results/analyses/ablation/ablation.csv").exists()


@pytest.mark.parametrize("name", figures.names())
def test_an_analysis_answers_one_question(name: str) -> None:
    question = figures.get(name).question
    assert question[0].isupper() and question.endswith("?") and question.count("?") == 1
    assert "." not in question and len(question.split()) <= 20


def test_a_picture_has_an_alternative_text(runs: list[str]) -> None:
    assert analyze("ablation", *runs) == 0
    text = alt_text.read(TO / "ablation.png")
    assert "AP of RM is highest for 2 (30.0) and lowest for 1 (20.0)" in text
    assert b"highest for 2 " in (TO / "ablation.pdf").read_bytes()


def test_text_in_a_pdf_is_text() -> None:
    assert STYLE["pdf.fonttype"] == 42
