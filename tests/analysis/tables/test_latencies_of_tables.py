"""Tables print the inference latency of comparable rows, apart from the speed of training."""

from pathlib import Path

from analysis.report.grids import table_views
from analysis.tables.csv_file import read_csv, to_csv
from analysis.tables.latex import to_latex
from analysis.tables.markdown import to_markdown
from analysis.tables.rows import ResultRow, RowSpec, build
from kd.common.files import read_json, write_json
from kd.records.latency import BatchLatency, Conditions, Latency, write_latency

CONDITIONS = Conditions("a processor", "torch 2.11.0", 4, 640, 480, "16 test images of tiny")
OTHER = CONDITIONS._replace(device="a GPU", threads=None)


def latency(milliseconds: float, conditions: Conditions = CONDITIONS, time: str = "t") -> Latency:
    batches = (
        BatchLatency(1, milliseconds, 2 * milliseconds, 1.0, 50),
        BatchLatency(8, 4 * milliseconds, 9 * milliseconds, 6.5, 50),
    )
    return Latency(conditions, batches, time)


def rows(run, *latencies: Latency | None) -> list[ResultRow]:
    """Return a row for each latency, the first a teacher's."""
    specs = []
    for index, one in enumerate(latencies):
        path = run(f"r{index}", 0.3, hours=1)
        provenance = {**read_json(path / "provenance.json"), "weights_sha256": "1a"}
        write_json(path / "provenance.json", provenance)
        if one:
            write_latency(path, one, {"weights_sha256": "1a"})
        kind = "baseline" if index else "teacher"
        specs.append(RowSpec("T", "GFL", f"Row {index}", kind, "", "R18", {0: path}))
    return build(specs)


def cost(results: list[ResultRow]) -> tuple[list[dict[str, str]], str]:
    """Return the cells of the table of costs by column, and its notes."""
    lines = to_markdown(results).partition("### Cost")[2].strip().splitlines()
    grid = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    notes = "\n".join(line for line in lines if line.startswith("- "))
    return [dict(zip(grid[0], cells, strict=True)) for cells in grid[2:]], notes


def test_latency_is_printed_beside_and_apart_from_training_speed(run) -> None:
    results = rows(run, latency(20.0), latency(10.0))
    cells, notes = cost(results)
    assert [*cells[0]][-2:] == ["Inference, ms", "Inference images/s"]
    assert "Training images/s" in cells[0]
    assert [row["Inference, ms"] for row in cells] == ["20.0", "10.0"]
    assert [row["Inference images/s"] for row in cells] == ["100", "200"]
    assert (
        "for one image, from the resized image to boxes, at 640 x 480 pixels, a processor, "
        in notes
    )
    assert "Inference images/s: in batches of 8." in notes and "left out" not in notes
    assert "Inference, ms & Inference images/s" in to_latex(results)


def test_rows_of_other_conditions_are_left_out_with_a_note(run) -> None:
    cells, notes = cost(rows(run, latency(3.0, OTHER), latency(20.0), None, latency(10.0)))
    assert [row["Inference, ms"] for row in cells] == ["\u2013", "20.0", "\u2013", "10.0"]
    assert (
        "The inference of Row 0 is left out: it was measured at 640 x 480 pixels, a GPU," in notes
    )
    assert "batches of 1 and 8." in notes


def test_rows_of_several_commands_have_a_note(run) -> None:
    _, notes = cost(rows(run, latency(20.0, time="a"), latency(10.0, time="b")))
    assert "Latencies come from 2 commands." in notes


def test_without_a_measurement_there_is_no_column(run) -> None:
    cells, notes = cost(rows(run, None, None))
    assert "Inference" not in notes and not any("Inference" in name for name in cells[0])


def test_the_csv_file_keeps_latencies_and_conditions(run, tmp_path: Path) -> None:
    results = rows(run, latency(20.0), latency(3.0, OTHER), None)
    path = tmp_path / "table.csv"
    path.write_text(to_csv(results), encoding="utf-8")
    assert [row.latency for row in read_csv(path)] == [latency(20.0), latency(3.0, OTHER), None]


def test_the_report_shows_latencies_among_the_costs(run) -> None:
    results = rows(run, latency(20.0), latency(3.0, OTHER), latency(10.0))
    (table,) = table_views(results, {str(path): "done" for row in results for path in row.runs})
    costs = [column.label for column in table.columns if column.is_cost]
    assert costs[-2:] == ["Inference, ms", "Inference images/s"]
    cells = [[cell.text for cell in row.cells[-2:]] for row in table.rows]
    assert cells == [["20.0", "100"], ["\u2013", "\u2013"], ["10.0", "200"]]
    assert any("left out" in note for note in table.usage)
