"""Gallery: figures that exist, an index by question, and the command under each."""

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
    """Work in a tiny project with a figure of runs without training."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    monkeypatch.setattr(gallery, "STUDIES", {"tiny": "tiny"})
    edit(STUDY, tables__pair__sweep={"rm": {"weight": [2, 8]}}, tables__pair__methods=["rm"])
    edit(STUDY, figures={"weights": {"analysis": "ablation"}, "errors": {"analysis": "tide"}})
    tiny_plan = plan("tiny", "tiny", Library())
    for run in tiny_plan.runs.values():
        run.write()
        write_metrics(run.directory, 0.25)
    assert (
        main(["figures", *planning.plan_figures(tiny_plan, "tiny", "tiny")["weights"].arguments])
        == 0
    )


def test_the_page_has_the_picture_the_findings_and_the_commands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gallery.main()
    page = Path("docs/reference/gallery.md").read_text()
    assert "## Ablation\n" in page
    ((text, link),) = re.findall(r"!\[(.+)\]\((.+)\)", page)
    assert text.startswith("AP over the values of a setting: over weight, AP of RM is")
    with Image.open(Path("docs/reference", link)) as picture:
        assert picture.width == gallery.WIDTH
    assert "AP is highest at" in page
    assert "snakemake figure_weights --config study=tiny scale=tiny" in page
    assert "results/tiny/tiny/figures/errors: no such figure" in caplog.text
    assert f"| [{figures.get('ablation').question}](#ablation) |" in page
    assert figures.get("tide").title not in page


def test_the_page_keeps_the_section_of_a_figure_that_is_not_here() -> None:
    gallery.main()
    page = Path("docs/reference/gallery.md").read_text()
    Path("results/tiny/tiny/figures/weights/caption.md").unlink()
    gallery.main()
    assert Path("docs/reference/gallery.md").read_text() == page


def test_the_command_of_a_figure_runs() -> None:
    gallery.main()
    (block,) = re.findall(
        r"\nkd (figures ablation.+?)\n```", Path("docs/reference/gallery.md").read_text(), re.S
    )
    arguments = block.replace("\\\n", " ").split()
    Path("results/tiny/tiny/figures/weights/ablation.csv").unlink()
    assert main(arguments) == 0
    assert Path("results/tiny/tiny/figures/weights/ablation.csv").exists()


def test_a_command_of_many_runs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gallery, "MOST_RUNS", 3
    )  # of a teacher, a student, and two values of RM's weight
    gallery.main()
    page = Path("docs/reference/gallery.md").read_text()
    assert "snakemake figure_weights" in page
    assert "kd figures" not in page
