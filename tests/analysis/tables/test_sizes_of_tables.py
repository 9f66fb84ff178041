"""Tables print the size of each row's detector, apart from the cost of training."""

from pathlib import Path

from analysis.report.grids import table_views
from analysis.tables.csv_file import read_csv, to_csv
from analysis.tables.latex import to_latex
from analysis.tables.markdown import to_markdown
from analysis.tables.rows import ResultRow, RowSpec, build
from kd.common.files import write_json
from kd.records.model_size import ModelSize

TEACHER = ModelSize(37_968_692, 250_487_537_664, 152_087_672, 1333, 800)
STUDENT = ModelSize(21_410_100, 197_911_805_952, 85_678_960, 1333, 800)


def rows(run, sized: bool = True) -> list[ResultRow]:
    """Return a teacher's row and a baseline's, of which only the second seed has a size."""
    teacher, first, second = run("t", 0.4, hours=2), run("a", 0.3, hours=1), run("b", 0.3, hours=1)
    if sized:
        write_json(teacher / "model.json", TEACHER._asdict())
        write_json(second / "model.json", STUDENT._asdict())
    return build(
        [
            RowSpec("T", "RetinaNet", "Teacher", "teacher", "R50", "", {0: teacher}),
            RowSpec("T", "RetinaNet", "Student", "baseline", "", "R18", {0: first, 1: second}),
        ]
    )


def states_of(rows: list[ResultRow]) -> dict[str, str]:
    return {str(path): "done" for row in rows for path in row.runs}


def test_a_row_has_the_size_that_one_of_its_runs_records(run) -> None:
    assert [row.size for row in rows(run)] == [TEACHER, STUDENT]


def test_the_cost_of_training_and_the_size_of_the_detector_are_named_apart(run) -> None:
    measured = rows(run)
    assert "Parameters, M & GFLOPs & Weights, MB" in to_latex(measured)
    lines = to_markdown(measured).partition("### Cost")[2].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0] == [
        *("Row", "Hours", "Training images/s", "Training memory, GB"),
        *("Parameters, M", "GFLOPs", "Weights, MB"),
    ]
    assert cells[2][4:] == ["38.0", "250", "152"]
    assert cells[3][4:] == ["21.4", "198", "85.7"]
    assert lines[-1].endswith("billion multiply-adds for one test image of 1333 x 800 pixels.")


def test_without_a_record_there_is_no_column(run) -> None:
    unsized = rows(run, sized=False)
    assert [row.size for row in unsized] == [None, None]
    text = to_markdown(unsized)
    assert "Training images/s" in text and "GFLOPs" not in text
    labels = [column.label for column in table_views(unsized, states_of(unsized))[0].columns]
    assert "Training images/s" in labels and "GFLOPs" not in labels


def test_the_csv_file_keeps_the_exact_size(run, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(to_csv(rows(run)), encoding="utf-8")
    assert [row.size for row in read_csv(path)] == [TEACHER, STUDENT]


def test_a_csv_file_of_an_earlier_version_has_no_size(run, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    lines = to_csv(rows(run, sized=False)).splitlines()
    header = lines[0].replace("parameters,multiply_adds,weight_bytes", "x,y,z")
    path.write_text("\n".join([header, *lines[1:]]), encoding="utf-8")
    assert [row.size for row in read_csv(path)] == [None, None]


def test_the_report_shows_sizes_among_the_costs(run) -> None:
    measured = rows(run)
    (table,) = table_views(measured, states_of(measured))
    costs = [column.label for column in table.columns if column.is_cost]
    assert costs[-3:] == ["Parameters, M", "GFLOPs", "Weights, MB"]
    cells = [[cell.text for cell in row.cells[-3:]] for row in table.rows]
    assert cells == [["38.0", "250", "152"], ["21.4", "198", "85.7"]]
