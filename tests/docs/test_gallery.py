"""The gallery shows the figures that were made, with the command under each."""

import re
from pathlib import Path

import pytest
from PIL import Image

from analysis import figures
from analysis.figures import planning
from docs.build import gallery
from kd.cli.main import main
from kd.config.library import Library
from kd.config.plan import plan
from tests.analysis.fakes import write_metrics
from tests.support.tiny import edit, make_project

STUDY = "configs/studies/tiny.yaml"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a tiny project with a figure that was made of runs that were not."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    monkeypatch.setattr(gallery, "SHOWN", {"tiny": "tiny"})
    edit(STUDY, tables__pair__sweep={"rm": {"weight": [2, 8]}}, tables__pair__methods=["rm"])
    edit(STUDY, figures={"weights": {"analysis": "ablation"}, "errors": {"analysis": "tide"}})
    made = plan("tiny", "tiny", Library())
    for run in made.runs.values():
        run.write()
        write_metrics(run.directory, 0.25)
    assert main(["analyze", *planning.figures(made, "tiny", "tiny")["weights"].arguments]) == 0


def test_a_picture_its_finding_and_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    gallery.main()
    page = Path("docs/gallery.md").read_text()
    assert "## Ablation\n" in page
    (link,) = re.findall(r"!\[Ablation\]\((.+)\)", page)
    with Image.open(Path("docs", link)) as picture:
        assert picture.width == gallery.WIDTH
    assert "AP is highest at" in page
    assert "snakemake figure_weights --config study=tiny scale=tiny" in page
    assert "results/tiny/tiny/figures/errors: not made here; left out" in capsys.readouterr().err
    assert f"## {figures.get('tide').title}\n" in page


def test_its_command_runs_as_it_stands() -> None:
    gallery.main()
    (block,) = re.findall(
        r"```\nkd (analyze ablation.+?)\n```", Path("docs/gallery.md").read_text(), re.S
    )
    arguments = block.replace("\\\n", " ").split()
    Path("results/tiny/tiny/figures/weights/ablation.csv").unlink()
    assert main(arguments) == 0
    assert Path("results/tiny/tiny/figures/weights/ablation.csv").exists()


def test_a_command_of_many_runs_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "LISTED", 3)  # a teacher, a student, and two values of RM's weight
    gallery.main()
    page = Path("docs/gallery.md").read_text()
    assert "snakemake figure_weights" in page
    assert "kd analyze" not in page
