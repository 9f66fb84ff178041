"""The page of a study: numbers counted by hand, states, and escaped markup."""

import base64
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from analysis.figures import get
from analysis.plotting.style import save
from analysis.report.intervals import WIDTH, Axis
from analysis.report.page import ReportRequest
from analysis.report.pictures import markdown, picture
from analysis.report.records import facts, gather
from analysis.statistics.gains import Gain
from analysis.statistics.seeds import Interval
from analysis.tables.csv_file import to_csv
from analysis.tables.rows import ResultRow
from kd import methods
from kd.cli.main import main
from kd.config.library import Library
from kd.config.plan import plan
from kd.config.selection import StudyOptions
from tests.analysis.report.conftest import (
    HOSTILE,
    STUDY,
    TINY,
    complete,
    draw,
    fail,
    finish,
    runs_of,
    write_page,
)
from tests.support.tiny import edit

pytestmark = pytest.mark.usefixtures("project")


def text(page: Any) -> str:
    """Return a written page as text without tags, its white space as one space."""
    source = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", page.path.read_text(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", source))


def cells(page: Any, name: str) -> dict[str, str]:
    """Return a row's cells by column, with spread and marks."""
    (row,) = (row for row in page.tables[0].rows if row.result.label == name)
    return {cell.column.key: f"{cell.text}|{cell.spread}|{cell.mark}" for cell in row.cells}


def embedded(page: Any) -> Any:
    return json.loads(re.findall(r'id="data">(.*?)</script>', page.path.read_text(), re.DOTALL)[0])


def test_cells_of_a_finished_study() -> None:
    """Rm has 31 and 35: 33.0 ± 2.8; its gains are 1 and 3: 2.0 ± 1.4; 33.3 - 31.9 is 1.4."""
    complete()
    page = write_page()
    rm_cells = cells(page, "RM")
    assert rm_cells["AP"] == "33.0|2.8|" and rm_cells["gain"] == "+2.0|1.4|"
    assert rm_cells["published_AP"].startswith("33.3||")
    (rm,) = (row for row in page.tables[0].rows if row.result.label == "RM")
    below = {cell.column.key: cell.below for cell in rm.cells if cell.below}
    assert below == {"gain": "(\u22128.3 to +12.3)", "published_AP": "+1.4"}
    assert rm_cells["seeds"] == "2/2||" and rm_cells["verdict"] == "ran at tiny||"
    assert (rm_cells["hours"], rm_cells["gpu_hours"]) == (
        "2.00||",
        "4.00||",
    )  # of an hour, two GPUs each
    assert cells(page, "Student")["gain"] == "||"
    assert not page.partial and page.state == "7 runs: 7 done"
    assert "Partial" not in text(page) and "data-reload" not in page.path.read_text()


def test_the_page_behind_a_gain_has_all_its_statistics() -> None:
    """The gains of RM are 1 and 3, those of RM + PFI -1 and -1."""
    complete()
    page = write_page()
    facts = {row["title"]: dict(row["facts"]) for row in embedded(page)["rows"]}["RM"]
    # Of the three rows a run deviates by 2 from its mean; t of 1.256 degrees of freedom is 8.
    assert facts["95 % interval of the mean"] == "21.7 to 44.3"
    assert facts["Judgment"] == "undetermined" and cells(page, "RM")["judgment"].startswith("unde")
    assert facts["Interval over seeds, all planned rows"] == "\u22128.3 to +12.3"
    assert re.fullmatch(
        r"0\.\d\d \(0\.\d\d to 1\.00\)", facts["Probability that a new student is better"]
    )
    assert 0 < float(facts["q, all tables of the page (screening)"]) <= 1
    assert 'data-judgment="undetermined"' in page.path.read_text()


def test_front_names_the_largest_gain_and_the_verdicts() -> None:
    complete()
    front = text(write_page())
    assert "Table 9 \u00b7 One pair RetinaNet AP 31.0 ± 1.4 RM of 2 gains" in front
    assert "ran at tiny: 2" in front
    assert "Miniature: results hold for this data and these networks" in front
    assert "Stand-ins: shapes-tiny for coco2017, schedule tiny for 1x, ResNet-18" in front


def test_one_seed_below_the_scale_of_the_paper_is_not_beside_published_numbers() -> None:
    complete()
    page = write_page(ReportRequest("tiny", "tiny", StudyOptions(seeds=1)))
    front = text(page)
    assert "Miniature: tests the pipeline, not the method." in front
    assert "\u22121.0 to +1.0 (2 methods)" in front and "Largest gain" not in front
    keys = [column.key for column in page.tables[0].columns]
    assert keys[:8] == ["row", "gain", "bar", "verdict", "AP", "seeds", "AP50", "AP75"]
    assert keys[8:11] == ["APS", "APM", "APL"]
    assert keys[11:] == ["hours", "gpu_hours", "images_per_second", "memory_mb", "energy_kwh"]
    assert "33.3" not in front and "33.3" in str(embedded(page)["rows"])  # in the provenance
    assert ",33.3," in embedded_csv(page)


def embedded_csv(page: Any) -> str:
    """Return the CSV that the page offers."""
    (data,) = re.findall(r'href="data:text/csv;base64,([^"]*)"', page.path.read_text())
    return base64.b64decode(data).decode()


def test_files_are_linked_next_to_the_page() -> None:
    complete()
    draw()
    assert main(["table", "tiny", "--scale", "tiny", "--seeds", "2", "--complete"]) == 0
    page = write_page()
    assert embedded_csv(page) == (TINY.folder / "table.csv").read_text()
    links = re.findall(r'href="([^#"]*)" download', page.path.read_text())
    relative = [link for link in links if not link.startswith("data:")]
    pictures = ["gains/pair.png", "gains/pair.pdf"]
    assert relative[:5] == ["table.tex", "table.md", "claims.md", *pictures]
    assert all((TINY.folder / link).is_file() for link in relative)
    assert "figures/curves/training_curves-terms.png" in relative


def test_the_methods_text_and_its_references() -> None:
    complete()
    page = write_page()
    for part in (
        "We distilled RetinaNet with RM and RM + PFI.",
        "Teachers had the backbone ResNet-18 x0.1875, students ResNet-18 x0.125.",
        "The students of all seeds learned from one teacher.",
        "Schedule tiny trained from random weights for 2 epochs with SGD, batch size 4, learning",
        "was trained with 2 seeds.",
        "simultaneous 95 % intervals of all gains of a table",
        "torch 2.11.0",
        "Hardware: 2 \u00d7 GPU T.",
    ):
        assert part in page.methods, part
    keys = re.findall(r"(?m)^@\w+\{(\w+),", page.references)
    assert keys == ["li2022knowledge", "chen2019mmdetection", "lin2014microsoft", "kd_detection"]


def test_every_study_and_method_cites_an_entry() -> None:
    library = Library()
    cited = [key for name in library.names("studies") for key in library.study(name, "test").cite]
    cited += [methods.get(name).cite for name in methods.names()]
    assert {*cited} <= {*library.references}
    assert all(entry.count("{") == entry.count("}") for entry in library.references.values())


def test_a_number_links_to_its_runs() -> None:
    complete()
    data = embedded(write_page())
    row = next(row for row in data["rows"] if row["title"] == "RM")
    points = [
        (data["runs"][run]["points"]["AP"], data["runs"][baseline]["points"]["AP"])
        for _, run, baseline in row["seeds"]
    ]
    assert points == [(31, 30), (35, 32)]
    run = data["runs"][row["seeds"][1][1]]
    assert run["directory"] == str(runs_of("/rm_from")[1]) and run["seed"] == 1
    assert run["lines"] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert data["pool"][run["packages"]] == {"torch": "2.11.0"}
    config = {key: data["pool"][place] for key, place in run["config"].items()}
    assert config == json.loads((runs_of("/rm_from")[1] / "config.json").read_text())
    assert [data["runs"][place]["name"] for place in run["teachers"]] == ["retinanet-r18-w0.1875"]
    assert dict(row["published"]) == {"AP": "33.3"} and dict(row["facts"])["Note"] == "quoted"


def test_facts_of_a_run_have_units() -> None:
    complete()
    records, _ = gather(plan("tiny", "tiny", Library(), StudyOptions(seeds=2)))
    run_facts = dict(facts(next(iter(records.values()))))
    assert run_facts["Hardware"] == "2 \u00d7 GPU T" and run_facts["Energy"] == "1.000 kWh"
    assert run_facts["Training time"] == "1 h 00 m" and run_facts["GPU-seconds"] == "7,200"
    assert (
        run_facts["Started"] == "2026-01-02 03:04:05 UTC"
        and run_facts["Images per second"] == "20.0"
    )
    assert (run_facts["Peak memory"], run_facts["Slurm job"]) == ("1,500 MB", "77")
    assert run_facts["Data fingerprint"] == "da7a" * 16 and run_facts["Command"] == "kd train it"


def test_partial_and_failed_rows() -> None:
    finish(runs_of("r18-w0.125/alone")[0], 0.30)
    finish(runs_of("/rm_from")[0], 0.31)
    fail(runs_of("/rm_from")[1], "out of memory: 17 GB of 16")
    step = {"step": 3, "steps": 12, "images_per_second": 8.0}
    (runs_of("/rm+pfi_from")[0] / "log.jsonl").write_text(json.dumps(step) + "\n")
    page = write_page()
    states = {row.result.label: (row.state, row.reason) for row in page.tables[0].rows}
    assert states["RM"] == ("failed", "out of memory: 17 GB of 16")
    assert states["Student"][0] == "not started" and states["RM + PFI"][0] == "running"
    page_text = text(page)
    assert "Partial. 2 of 7 runs are done" in page_text
    assert "OutOfMemoryError: out of memory: 17 GB of 16" in page_text
    assert "step 3 of 12, 4 s left" in page_text
    assert 'data-reload="30"' in page.path.read_text()
    assert page.counts == {
        **{"done": 2, "running": 1, "waiting for teacher": 1},
        **{"failed": 1, "not started": 2},
    }


def test_a_study_without_results() -> None:
    page = write_page()
    assert "0 of 7 runs are done" in text(page)
    assert {row.state for row in page.tables[0].rows} == {"not started", "waiting for teacher"}
    assert cells(page, "RM")["AP"] == "\u2013||" and "verdict" not in cells(page, "RM")


def test_a_study_of_many_methods_and_classifiers() -> None:
    page = write_page(ReportRequest("ours", "smoke", StudyOptions(seeds=2)))
    tables = Library().study("ours", "test").tables
    assert [table.name for table in page.tables] == [table.title for table in tables.values()]
    assert {*page.counts} == {"waiting for teacher", "not started"}
    levels = {node.name: node.level for node in page.graph.nodes.values()}
    assert [name for name in levels if name.startswith("Classifier")]
    assert {level for name, level in levels.items() if name.startswith("Classifier")} == {1}


def test_nobodys_words_are_markup() -> None:
    edit(STUDY, title=HOSTILE, tables__pair__title=HOSTILE)
    complete()
    shutil.rmtree(runs_of("/rm_from")[0])
    fail(runs_of("/rm_from")[0], HOSTILE)
    draw()
    source = write_page().path.read_text()
    assert "<img src=x" not in source and source.count("</script>") == 2
    assert "&lt;/script&gt;&lt;img src=x" in source and r"\u003c/script\u003e" in source


def test_the_page_allows_only_its_own_content() -> None:
    complete()
    source = write_page().path.read_text()
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', source)[0]
    assert policy.startswith("default-src &#39;none&#39;; img-src data:;")
    assert "unsafe" not in policy and "http:" not in policy and "https:" not in policy
    assert not re.findall(
        r'(?:src|href)="(?!#|data:|\.\./|(?:figures|gains|partial)/|table\.)', source
    )


def test_graph_counts_the_seeds_of_each_training() -> None:
    complete()
    shutil.rmtree(runs_of("/rm_from")[0])
    fail(runs_of("/rm_from")[0], "no")
    graph = write_page().graph
    nodes = {node.name: (node.count, node.state) for node in graph.nodes.values()}
    assert nodes == {
        "shapes-tiny": ("done", "done"),
        "RetinaNet ResNet-18 x0.1875": ("1/1", "done"),
        "RetinaNet ResNet-18 x0.125": ("2/2", "done"),
        "RM: RetinaNet ResNet-18 x0.125": ("1/2", "failed"),
        "RM + PFI: RetinaNet ResNet-18 x0.125": ("2/2", "done"),
        "Table 9 \u00b7 One pair": ("6/7", "failed"),
    }
    edges = {(before.name, after.label) for before, after in graph.edges}
    assert ("RetinaNet ResNet-18 x0.1875", "RM") in edges and ("shapes-tiny", "baseline") in edges
    assert ("shapes-tiny", "RM") not in edges and len(edges) == 7
    places = {(node.x, node.y) for node in graph.nodes.values()}
    assert len(places) == len(graph.nodes)


def test_figures_with_captions_and_those_that_are_missing() -> None:
    draw()
    edit(STUDY, figures__tide={"analysis": "tide"})
    page = write_page()
    page_text = text(page)
    assert page.path.read_text().count("data:image/webp;base64,") == 3
    assert "The highest AP is 35.0 &lt;img" in page_text and "A definition." in page_text
    assert (
        "1 figure is not drawn yet: Errors and their cost in AP. To draw it, run "
        "snakemake figures --config study=tiny scale=tiny seeds=2" in page_text
    )
    assert get("training_curves").question in page_text


def test_pictures_are_shrunk_only_once(tmp_path: Path) -> None:
    draw()
    path = TINY.folder / "figures" / "curves" / "training_curves.png"
    image = picture(path)
    assert image and (image.width, image.height) == (1400, 200)
    assert picture(path) is image
    assert picture(tmp_path / "none.png") is None


def test_a_picture_has_the_alternative_text_of_its_file() -> None:
    draw()
    path = TINY.folder / "figures" / "curves" / "training_curves.png"
    save(Figure((2, 1)), path.with_suffix(""), ("png",), alt_text='AP is highest for "RM" (35.0).')
    text = write_page().path.read_text()
    assert 'alt="AP is highest for &#34;RM&#34; (35.0)."' in text
    assert 'alt="Curves, picture 2 of 3"' in text


def test_markdown_has_no_tags_and_no_pictures() -> None:
    assert markdown("a *b* <b>c</b>") == "<p>a <em>b</em> &lt;b&gt;c&lt;/b&gt;</p>\n"
    assert "<img" not in markdown("![x](http://example.org/x.png)")
    assert "href" not in markdown("[x](javascript:alert(1))")


def row_with(gain: Gain | None) -> ResultRow:
    return ResultRow(
        "T", "G", "x", "distilled", "a", "b", seeds_measured=2, seeds_planned=2, gain=gain
    )


def test_axis_spans_whole_points_and_zero() -> None:
    axis = Axis.of([row_with(Gain(1.2, simultaneous=Interval(-0.3, 0.3)))])
    assert axis.ticks == [(6, "\u22121"), (39.3, "0"), (106, "+2")]
    assert (axis.at(-1), axis.at(0.5), axis.at(2)) == (6, WIDTH / 2, WIDTH - 6)
    bar = axis.bar(row_with(Gain(0.5, simultaneous=Interval(-1.0, 2.0))))
    assert bar == (39.3, 56, (6, 106), None, None)
    assert axis.bar(row_with(None)) is None


def test_other_studies_are_linked_with_their_state() -> None:
    complete()
    write_page()
    shutil.copy(STUDY, "configs/studies/another.yaml")
    edit("configs/studies/another.yaml", title="Another & one")
    Path("results/another/smoke").mkdir(parents=True)
    page = write_page()
    assert "Run kd report another --scale smoke" in text(page)
    Path("results/another/smoke/report.html").write_text(page.path.read_text())
    source = write_page().path.read_text()
    assert '<a href="../../another/smoke/report.html">Another &amp; one</a>' in source
    assert "7 runs: 7 done; written" in source
    Path("results/another/smoke/table.csv").write_text(to_csv(page.results))
    front = text(write_page())
    assert "done; written" in front and "UTC; ran at tiny: 2" in front
    assert (
        front.count("RetinaNet AP 31.0 ± 1.4 RM of 2 gains") == 2
    )  # this study's, and the other's


def test_the_page_has_commands_to_reproduce_it() -> None:
    complete()
    page_text = text(write_page())
    assert "git checkout c0ffee" in page_text
    assert (
        "snakemake --config study=tiny scale=tiny seeds=2 kd report tiny --scale tiny --seeds 2"
        in page_text
    )
    assert "Not exactly" not in page_text
    finish(runs_of("/rm_from")[0], 0.31, commit="c0ffee+changes")
    assert "Not exactly" in text(write_page())


def test_the_command_writes_and_watches_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "tiny", "--scale", "tiny", "--seeds", "2"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(
        "results/tiny/tiny/report.html: 7 runs: 4 waiting for teacher, 3 not started"
    )
    complete()
    assert main(["report", "tiny", "--scale", "tiny", "--seeds", "2", "--watch", "1"]) == 0
    assert capsys.readouterr().out.strip() == "results/tiny/tiny/report.html: 7 runs: 7 done"
    assert main(["report", "tiny", "--scale", "tiny", "--tables", "pear"]) == 2
    assert "did you mean 'pair'?" in capsys.readouterr().err


def test_watching_ends_when_all_runs_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        complete()

    monkeypatch.setattr("analysis.report.page.time.sleep", sleep)
    assert main(["report", "tiny", "--scale", "tiny", "--seeds", "2", "--watch", "9"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "4 waiting for teacher, 3 not started" in first and second.endswith("7 runs: 7 done")
    assert slept == [9]
