"""Committed pages of evidence: they agree with the committed data and with each other."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from analysis.statistics.seeds import mean_std, t_interval
from docs.build.evidence import __main__ as evidence
from docs.build.evidence import answers, causes, page, records
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from tests.support.paths import REPOSITORY

STUDIES = [
    study for study in evidence.STUDIES if (REPOSITORY / f"docs/evidence/{study}.csv").exists()
]


@pytest.mark.parametrize("study", STUDIES)
def test_committed_gains_are_those_of_the_committed_runs(
    study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    request = evidence.STUDIES[study]
    planned = plan(study, request.scale, Library(), StudyOptions(seeds=request.seeds))
    rows, runs = records.read(study), records.read(f"{study}-runs")
    checked = 0
    for row in planned.rows:
        title = planned.study.tables[row.table].title
        table_runs = runs[(runs["table"] == row.table) & (runs["detector"] == row.detector)]
        student, baseline = (
            table_runs[
                (table_runs["method"] == method) & (table_runs["setting"] == setting)
            ].set_index("seed")["AP"]
            for method, setting in ((row.method, row.setting), ("baseline", ""))
        )
        name = Library().detector(row.detector, "test").title
        label = causes.method_name(row.method, Library())
        label += f" ({row.setting})" if row.setting else ""
        places = (rows["table"] == title) & (rows["group"] == name) & (rows["row"] == label)
        if row.kind == "distilled" and len(rows[places]):
            gains = list((student - baseline).dropna())
            (line,) = rows[places].itertuples()
            assert line.gain == pytest.approx(mean_std(gains).mean, abs=1e-3)
            if len(gains) > 1:
                interval = (line.over_seeds_low, line.over_seeds_high)
                assert interval == pytest.approx(t_interval(gains), abs=1e-3)
            checked += 1
    assert checked == (rows["kind"] == "distilled").sum()


def test_the_committed_pages_are_those_of_the_committed_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(REPOSITORY / "docs", tmp_path / "docs")
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["evidence"])
    evidence.main()
    for path in (evidence.PAGE, answers.PAGE):
        assert path.read_text() == (REPOSITORY / path).read_text()
    assert json.dumps(sorted(p.name for p in page.PICTURES.glob("*"))) == json.dumps(
        sorted(p.name for p in (REPOSITORY / page.PICTURES).glob("*"))
    )


def test_the_short_answer_counts_the_orders_of_the_data() -> None:
    text = (REPOSITORY / evidence.PAGE).read_text(encoding="utf-8")
    outcomes = Counter(
        re.findall(r"^\|.* over .*\| (yes|reversed|undecided) +\|$", text, re.MULTILINE)
    )
    counts = "Of {} published orders between methods, {} hold, {} are reversed and {}".format(
        outcomes.total(), *(outcomes[name] for name in ("yes", "reversed", "undecided"))
    )
    answer = (REPOSITORY / answers.PAGE).read_text(encoding="utf-8")
    assert f"{counts} are undecided." in " ".join(answer.split())
