"""Options of ``kd plan --next``: their output, and mistakes with their remedy."""

import json
from pathlib import Path

import pytest

from kd.cli.main import main
from tests.support.tiny import make_project

PLAN = ("plan", "tiny", "--scale", "tiny")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path, data=False))


def test_the_looks_are_those_of_the_options(capsys):
    assert not main([*PLAN, "--next", "--first", "2", "--most", "4", "--methods", "rm"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Rule: looks at 2 to 4 seeds, fixed before the first look."
    assert lines[2].startswith("Nothing is measured. Start with 2 seeds: 5 trainings")
    assert lines[3] == "  snakemake --config study=tiny scale=tiny seeds=2 methods=rm"


def test_json_has_the_levels_and_the_next_look(capsys):
    assert not main([*PLAN, "--next", "--json"])
    content = json.loads(capsys.readouterr().out)
    assert sum(content["levels"].values()) == pytest.approx(0.05)
    assert content["next"]["seeds"] == 3 and len(content["rows"]) == 2


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--next --budget", ("--next and --budget", "leave out one")),
        ("--next --seeds 4", ("--seeds", "use --first and --most")),
        ("--most 4", ("--most", "add --next")),
        ("--next --first 1", ("--first 1", "2 or more")),
        ("--next --most 2", ("--most 2", "3 or more")),
    ],
)
def test_mistakes_name_their_remedy(words, texts, capsys):
    assert main([*PLAN, *words.split()]) == 2
    message = capsys.readouterr().err
    assert all(text in message for text in texts) and message.count("\n") == 1
