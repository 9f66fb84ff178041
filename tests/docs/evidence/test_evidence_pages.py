"""Committed pages of evidence: they agree with the committed data and with each other."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from analysis.statistics.comparison import compare_cell
from analysis.statistics.gains import judged
from analysis.statistics.pooled import Family
from analysis.statistics.pooled_power import detectable_gain
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


@pytest.mark.parametrize("study", STUDIES)
def test_committed_judgments_are_those_of_the_committed_runs(
    study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judgment is computed again from the AP of each run, without the rows of the table."""
    monkeypatch.chdir(REPOSITORY)
    runs = records.read(f"{study}-runs")
    rows = {(row.table, row.label): row for row in records.read_rows(study) if row.gain}
    request = evidence.STUDIES[study]
    planned = plan(study, request.scale, Library(), StudyOptions(seeds=request.seeds))
    checked = 0
    for key, table in planned.study.tables.items():
        names = [
            (row.method, row.setting, causes.method_name(row.method, Library()))
            for row in planned.rows
            if row.table == key and row.kind == "distilled"
        ]
        points = {
            (method, setting): dict(zip(group["seed"], group["AP"], strict=True))
            for (method, setting), group in runs[runs["table"] == key].groupby(
                ["method", "setting"]
            )
        }
        methods = {f"{m} {s}": points.get((m, s), {}) for m, s, _ in names}
        baseline = points.get(("baseline", ""), {})
        seeds = {name: [*row] or [*baseline] for name, row in methods.items()}
        comparison = compare_cell(baseline, methods, Family([*baseline], seeds))
        for method, setting, title in names:
            row = rows.get((table.title, title + (f" ({setting})" if setting else "")))
            if row is None or row.gain is None or comparison is None:
                continue
            name = f"{method} {setting}"
            assert comparison.judgments[name].word == row.gain.judgment
            ends = comparison.confirmed[name].over_seeds
            assert row.gain.simultaneous == pytest.approx(ends, abs=1e-3)
            probability = judged(row.gain, comparison, name, None).probability
            assert probability and row.gain.probability
            assert row.gain.probability.value == pytest.approx(probability.value, abs=2e-3)
            checked += 1
    assert checked == len(rows)


ORDERS = r"^\|.* over .*\| (yes|reversed|undetermined) +\|$"


def test_the_short_answer_counts_the_orders_of_the_data() -> None:
    """Orders for the conditions of a study are counted apart from those for others."""
    text = (REPOSITORY / evidence.PAGE).read_text(encoding="utf-8")
    outcomes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    is_alike = False
    for line in text.splitlines():
        if line in page.ORDERS.values():
            is_alike = line == page.ORDERS[True]
        outcomes[is_alike].update(re.findall(ORDERS, line))
    answer = " ".join((REPOSITORY / answers.PAGE).read_text(encoding="utf-8").split())
    for is_alike, conditions in (
        (True, "published orders for the detector, teacher and student of a study"),
        (False, "orders for others"),
    ):
        counts = outcomes[is_alike]
        words = [counts[word] for word in ("yes", "reversed", "undetermined")]
        sentence = "Of {} {}, {} hold, {} are reversed and {} are undetermined."
        assert sentence.format(counts.total(), conditions, *words) in answer


def test_the_short_answer_names_the_methods_that_help_or_hurt() -> None:
    """Every method of the table of answers that is not undetermined is in the short answer."""
    text = (REPOSITORY / answers.PAGE).read_text(encoding="utf-8")
    answer = " ".join(text.partition("**Short answer.**")[2].partition("## Design")[0].split())
    retinanet, faster, cells = [], [], []
    block = text.partition("<!-- answers: begin -->")[2].partition("<!-- answers: end -->")[0]
    for line in block.strip().splitlines()[2:]:
        name, first, _, second, _, third, _ = (cell.strip() for cell in line.strip("|").split("|"))
        for words, cell in ((retinanet, first), (faster, second), (cells, third)):
            words += [name.removesuffix(" (full)")] if "**helps**" in cell else []
    before, _, rest = answer.partition(" help RetinaNet")
    assert {*retinanet} == {*re.split(", | and ", before.rpartition("images, ")[2])}
    between = rest.partition(" help Faster R-CNN")[0].rpartition("AP. ")[2]
    assert {*faster} == {*re.split(", | and ", between)}
    assert cells == [] and "on real images (blood cells) all gains are" in answer
    assert text.count("**hurts**") == 1 and "DICOD hurts it" in answer


@pytest.mark.parametrize(
    ("study", "table", "seeds", "sentence"),
    [
        ("ours", "One stage", 5, "Five seeds of the table of RetinaNet detect a gain of {} AP"),
        ("ours", "Two stages", 3, "three seeds of that of Faster R-CNN one of {} AP"),
        ("bccd", "MobileNetV2 teaches", 6, "Six seeds on blood cells detect {} AP"),
        ("ours", "Two stages", 5, "five seeds in place of three: they detect {} AP"),
        ("ours", "One stage", 10, "ten seeds: they detect {} AP"),
    ],
)
def test_the_limits_state_the_detectable_gains(
    study: str, table: str, seeds: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    rows = records.read_rows(study)
    cell = next(row.cell for row in rows if row.table.startswith(table) and row.cell)
    gain = detectable_gain(cell.residual_std, seeds, cell.planned_rows)
    answer = " ".join(answers.PAGE.read_text(encoding="utf-8").split())
    assert sentence.format(f"{gain:.1f}") in answer
