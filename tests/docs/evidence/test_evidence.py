"""Evidence page: stored results of runs, the blocks of the page, and their agreement."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from docs.build.evidence import __main__ as evidence
from docs.build.evidence import causes, claims, orderings, page, records, sweeps
from kd.common.files import write_json
from kd.config.library import Library
from kd.config.plan import Plan, Row, plan
from tests.analysis.fakes import write_lines, write_metrics
from tests.support.paths import REPOSITORY
from tests.support.tiny import edit, make_project

NAN = float("nan")
STUDY = "configs/studies/tiny.yaml"


def test_a_small_ratio_keeps_its_digits() -> None:
    """A small gradient must not look like none."""
    assert [claims.ratio(value) for value in (0.0, 0.000454, 0.137, 7.17, NAN)] == [
        *("0", "0.00045", "0.14", "7.2", "\u2013")
    ]


# --- From runs to data, and from data to the page ------------------------------------------


AP = {"teacher": 0.4, "baseline": 0.29, "rm": 0.31, "rm+pfi": 0.30}


@pytest.fixture
def tiny_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return the plan of a tiny project with files of the runs of two seeds."""
    monkeypatch.chdir(make_project(tmp_path, data=False))
    edit(STUDY, seeds=2)
    shutil.copytree(REPOSITORY / "docs" / "evidence", "docs/evidence")
    evidence.PAGE.parent.mkdir()
    for path in records.FOLDER.glob("*.csv"):
        path.unlink()
    (records.FOLDER / "orderings.csv").write_text(",".join(orderings.COLUMNS) + "\n")
    monkeypatch.setattr(evidence, "STUDIES", {"tiny": evidence.StudyRequest("tiny")})
    planned = plan("tiny", "tiny", Library())
    for row in planned.rows:
        for seed, run in row.runs.items():
            # Without any variation about row and seed, no gain would be judged.
            residual = 1e-6 * (1 - 2 * seed) if row.method == "rm+pfi" else 0.0
            write(run.directory, AP[row.method] + 0.01 * seed + residual, row.method)
    return planned


def write(directory: Path, ap: float, method: str) -> None:
    write_metrics(directory, ap)
    record = {"seconds": 100.0, "gpu_seconds": 0.0, "images_per_second": 10.0, "steps": 2}
    machine = {"peak_memory_mb": 900, "cpu": "a processor", "instructions": "AVX2"}
    write_json(directory / "provenance.json", {**record, **machine, "commit": "abc", "inputs": {}})
    term = {"rm": ["loss_rm_cls"], "rm+pfi": ["loss_rm_cls", "loss_pfi"]}.get(method, [])
    norms = {name: [3.0, 0.0] for name in term} | {"detection": [0.0, 6.0]}
    shared = {"share": dict.fromkeys(term, 0.25), "loss": 1.0}
    steps = [{"step": step, **shared, "gradient_norm": norms} for step in range(1, 5)]
    write_lines(directory / "log.jsonl", [*steps, {"step": 5, **shared}])


def test_stored_results_contain_every_number(tiny_plan: Plan) -> None:
    records.collect(tiny_plan, "tiny", "tiny")
    runs, terms, rows = (records.read(f"tiny{part}") for part in ("-runs", "-terms", ""))
    assert len(runs) == 1 + 3 * 2, "a teacher, and two seeds of a baseline and two methods"
    assert set(runs["commit"]) == {"abc"}
    assert all(Path(run, "metrics.json").exists() for run in runs["run"])
    gain = (
        runs[runs["method"] == "rm"]["AP"].mean() - runs[runs["method"] == "baseline"]["AP"].mean()
    )
    (line,) = rows[rows["row"] == "RM"].itertuples()
    assert line.gain == pytest.approx(gain) == pytest.approx(2)
    (one, *_) = terms[terms["method"] == "rm"].itertuples()
    assert (one.term, one.share, one.gradient, one.gradient_last) == ("rm_cls", 0.25, 0.5, 0.5)


def test_a_table_is_replaced_as_a_whole_or_not_changed(tiny_plan: Plan) -> None:
    records.collect(tiny_plan, "tiny", "tiny")
    before = Path("docs/evidence/tiny-runs.csv").read_text()
    run = next(run for row in tiny_plan.rows if row.method == "rm" for run in row.runs.values())
    (run.directory / "metrics.json").unlink()
    (message,) = records.collect(tiny_plan, "tiny", "tiny")
    (table,) = tiny_plan.study.tables
    assert message.startswith(f"tiny, {table}: not changed, because results/ lacks 1 of its runs")
    assert str(run.directory) in message
    assert Path("docs/evidence/tiny-runs.csv").read_text() == before
    write(run.directory, 0.35, "rm")
    assert records.collect(tiny_plan, "tiny", "tiny") == []
    after = records.read("tiny-runs").set_index("run")["AP"]
    assert after[str(run.directory)] == pytest.approx(35)
    (line,) = records.read("tiny").query("row == 'RM'").itertuples()
    assert line.gain == pytest.approx((35 - 29 + 32 - 30) / 2)


def test_lines_of_runs_that_are_no_longer_planned_are_removed(tiny_plan: Plan) -> None:
    records.collect(tiny_plan, "tiny", "tiny")
    edit("configs/schedules/tiny.yaml", lr=0.02)
    changed = plan("tiny", "tiny", Library())
    for row in changed.rows:
        for run in row.runs.values():
            write(run.directory, AP[row.method], row.method)
    assert records.collect(changed, "tiny", "tiny") == []
    planned = {str(run.directory) for row in changed.rows for run in row.runs.values()}
    assert set(records.read("tiny-runs")["run"]) == planned


def test_the_page_depends_only_on_the_stored_data(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (table,) = tiny_plan.study.tables
    names = [f"tiny-{table}", "tiny-terms", "tiny-price"]
    empty = "\n".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->" for name in names)
    evidence.PAGE.write_text(empty)
    monkeypatch.setattr("sys.argv", ["evidence", "--collect"])
    evidence.main()
    first = evidence.PAGE.read_text()
    shutil.rmtree("results")
    evidence.PAGE.write_text(empty)
    monkeypatch.setattr("sys.argv", ["evidence"])
    evidence.main()
    assert evidence.PAGE.read_text() == first
    assert "| +2.0 ± 0.0 (+2.0 to +2.0)* |" in first and " rm\\_cls " in first
    assert "All 7 trainings took 0.19 hours, each on one thread. Processors: a processor" in first
    judgments = [line.split("|") for line in first.splitlines() if line.endswith("| helps    |")]
    assert [[cell.strip() for cell in line[1:4]] for line in judgments[-2:]] == [
        ["RM", "+2.0", "+2.0 to +2.0"],
        ["RM + PFI", "+1.0", "+1.0 to +1.0"],
    ]
    (picture,) = [line for line in first.splitlines() if line.startswith("![")]
    assert Path("docs/explanation", picture.split("(")[1].rstrip(")")).is_file()


def test_blocks_of_a_study_without_data_are_not_changed(
    tiny_plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    evidence.PAGE.write_text("as it was")
    monkeypatch.setattr("sys.argv", ["evidence"])
    evidence.main()
    assert "tiny.csv: no such file; the blocks of tiny are not changed" in caplog.text
    assert evidence.PAGE.read_text() == "as it was"


def sweep_of(missing: tuple[str, int] = ("", 0), **gains: tuple[float | None, ...]) -> sweeps.Gains:
    """Return the gains of two seeds of methods at three settings; a gain of None is not run.

    ``missing`` is the setting and the seed of another run that is left out.
    """
    seeds, rows, lines = (100, 101), [], []
    for seed in seeds:
        lines.append({"method": "baseline", "setting": "", "seed": seed, "AP": 29.0 + seed})
    for method, method_gains in gains.items():
        for factor, gain in zip((0.25, 1, 4), method_gains, strict=True):
            row = {"method": method, "setting": f"weight {factor:g}"}
            rows.append(cast(Row, SimpleNamespace(runs=dict.fromkeys(seeds), **row)))
            for seed in seeds:
                if gain is not None and (row["setting"], seed) != missing:
                    lines.append({**row, "seed": seed, "AP": 29.0 + seed + gain})
    return sweeps.sweep_gains(pd.DataFrame(lines), rows)


def gradients(*methods: str) -> pd.DataFrame:
    """Return two terms of methods at three settings on two seeds, with gradients of 3 or 5."""
    return pd.DataFrame(
        {"method": method, "setting": f"weight {factor:g}", "seed": seed, "gradient": gradient}
        for method in methods
        for factor in (0.25, 1, 4)
        for seed, gradients in ((100, (1.0, 2.0)), (101, (1.0, 4.0)))
        for gradient in gradients
    )


def test_gains_by_factor_are_paired_over_seeds() -> None:
    gains = sweep_of(rm=(0.0, 1.0, -2.0), pfi=(1.0, None, 2.0), chen=(None, None, None))
    cells = {
        line["Row"]: [line[factor].partition(" ")[0] for factor in sweeps.FACTORS]
        for line in sweeps.table(gains, gradients("rm", "pfi"))
    }
    assert cells == {"RM": ["0.0", "+1.0", "\u22122.0"], "PFI": ["+1.0", "\u2013", "+2.0"]}


def test_a_setting_that_lacks_a_seed_has_no_gain() -> None:
    gains = sweep_of(missing=("weight 4", 101), rm=(0.0, 1.0, -2.0))
    (line,) = sweeps.table(gains, gradients("rm"))
    assert [line[factor] for factor in sweeps.FACTORS] == ["0.0 ± 0.0", "+1.0 ± 0.0", "\u2013"]
    assert line["Gradient"] == "4; 4; \u2013"


def test_seeds_and_means_are_drawn_by_factor() -> None:
    figure = sweeps.plot(sweep_of(rm=(0.0, 1.0, -2.0), pfi=(1.0, None, 2.0)))
    rm, pfi = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["RM", "PFI"]
    _, mean, *points = rm.lines
    assert list(mean.get_ydata()) == [0.0, 1.0, -2.0]
    assert [list(line.get_ydata()) for line in points] == [[0.0] * 2, [1.0] * 2, [-2.0] * 2]
    _, mean, *points = pfi.lines
    assert np.isnan(mean.get_ydata()).tolist() == [False, True, False]
    assert [len(line.get_ydata()) for line in points] == [2, 0, 2]
    assert [text.get_text() for text in pfi.get_xticklabels()] == ["¼", "1", "4"]


def test_costs_are_relative_to_baselines_on_the_same_processor() -> None:
    """A run has two records; on the second machine it takes twice as long, its method 3 times."""
    lines = [
        {"cpu": cpu, "method": method, "seconds": base * factor}
        for cpu, base, by in (("A (1)", 100.0, 2.0), ("B (2)", 200.0, 3.0))
        for method, factor in (("baseline", 1.0), ("rm", by))
    ]
    runs = pd.DataFrame(lines).assign(detector="retinanet", setting="", teacher_cache_mb=0)
    runs = runs.assign(images_per_second=9.0, peak_memory_mb=9, instructions="AVX2")
    runs = runs.assign(table=runs["cpu"], started=runs["cpu"], run=runs["method"])
    text = page._price(page.StudyData("ours", None, [], runs, runs))  # type: ignore[arg-type]
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()[2:6]]
    assert [[line[2], line[3], line[6]] for line in cells] == [
        ["A", "Student", "1.00"],
        ["A", "RM", "2.00"],
        ["B", "Student", "1.00"],
        ["B", "RM", "3.00"],
    ]
    assert "All 4 trainings took 0.31 hours" in text
    assert text.endswith("Processors: A (1) with AVX2, B (2) with AVX2.")


def test_a_term_in_two_tables_is_that_of_the_first() -> None:
    line = {"detector": "retinanet", "method": "rm", "setting": "", "term": "rm_cls", "seed": 0}
    weighed = dict.fromkeys(("gradient_first", "gradient", "gradient_last"), 1.0)
    terms = pd.DataFrame(
        [{**line, **weighed, "table": at, "share": share} for at, share in (("a", 0.1), ("b", 0.3))]
    )
    text = page._terms(page.StudyData("ours", None, terms, terms, terms))  # type: ignore[arg-type]
    (row,) = text.splitlines()[2:]
    assert row.split("|")[4].strip() == "10.0"


def test_a_cause_without_values_has_no_column(tiny_plan: Plan) -> None:
    """Without figures, the only causes are those in logs."""
    records.collect(tiny_plan, "tiny", "tiny")
    lines = causes.table("tiny", "", "retinanet", records.read("tiny-terms"))
    assert [[*line] for line in lines] == [["Row", "Share of the loss, %", "Gradient"]] * 2
    assert [line["Share of the loss, %"] for line in lines] == ["25.0", "50.0"]
