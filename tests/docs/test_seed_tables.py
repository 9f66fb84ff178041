"""Numbers of seeds in documents are those that are computed."""

import pytest

from analysis.statistics.looks import Rule
from analysis.statistics.pooled_power import pooled_seeds_needed
from tests.support.paths import REPOSITORY

DOCS = REPOSITORY / "docs"


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_seeds_of_the_statistics_page_are_computed() -> None:
    text = (DOCS / "explanation/statistics.md").read_text().split("## How many seeds")[1]
    header, _, *lines = (line for line in text.splitlines() if line.startswith("|"))
    stds = [float(cell) for cell in cells(header)[1:]]
    assert len(lines) == 9
    for line in lines:
        name, *numbers = cells(line)
        rows, gain = int(name.split()[0]), float(name.split()[-1])
        assert numbers == [str(pooled_seeds_needed(std, rows, gain)) for std in stds], name


def test_the_levels_of_the_how_to_page_are_those_of_the_rule() -> None:
    text = (DOCS / "how-to/seeds.md").read_text()
    lines = [cells(line) for line in text.splitlines() if line.startswith("| ")]
    levels = {line[0]: line[1:] for line in lines if line[0].endswith("seeds")}
    assert len(levels) == 3
    for looks, (early, last, total) in levels.items():
        first, most = (int(word) for word in looks.split() if word.isdecimal())
        rule = Rule(first, most)
        assert float(early.split()[0]) == pytest.approx(rule.levels[first], abs=5e-5)
        assert early.split(" ", 1)[1] == f"({most - first} looks)"
        assert (last, total) == (str(rule.levels[most]), str(rule.level))
    default = Rule()
    assert f"`--first` (default {default.first}) and `--most` (default {default.most})" in text
