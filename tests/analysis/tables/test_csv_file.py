"""``table.csv``: its columns, its text, and reading it back."""

import csv
import dataclasses
import io

from analysis.statistics.gains import Gain
from analysis.statistics.joint import Probability
from analysis.statistics.seeds import Interval
from analysis.tables.cells import CellFacts
from analysis.tables.csv_file import INTERVALS, TESTS, read_csv, to_csv
from analysis.tables.rows import RowSpec, build
from tests.analysis.tables.conftest import DIFFERS, REASON

CONTRACT = """
    table group row kind teacher student setting scale metric seeds status 
    AP AP50 AP75 APS APM APL std mean_low mean_high level_verdict
    gain gain_std judgment simultaneous_low simultaneous_high pooled_low pooled_high
    moderated_low moderated_high joint_low joint_high over_seeds_low over_seeds_high
    over_images_low over_images_high p_adjusted p_model q p_equivalence p p_exact
    probability probability_low probability_high verdict
    published_AP published_AP50 published_AP75 published_APS
    published_APM published_APL published_gain
    residual_std residual_df equal_gains_p equal_runs_p planned_rows table_rows table_cells
    hours gpu_hours images_per_second memory_mb 
    energy_kwh parameters multiply_adds weight_bytes test_image_width test_image_height
    inference_device inference_runtime inference_threads inference_width inference_height
    inference_images inference_batches inference_ms inference_p95_ms preprocessing_ms
    inference_iterations inference_measured
    stand_ins unlike differs note source runs baseline_runs teacher_runs
    selection split early_split
"""


def lines(rows):
    """Return the lines of the CSV of rows."""
    return list(csv.DictReader(io.StringIO(to_csv(rows))))


def test_columns(results):
    assert to_csv(results).partition("\n")[0].split(",") == CONTRACT.split()


def test_a_row_is_text_with_six_digits_and_joined_lists(results, tmp_path):
    line = next(line for line in lines(results) if line["row"] == "RM + PFI")
    assert (line["seeds"], line["status"], line["gain"]) == ("3/3", "done", "2")
    assert (line["over_seeds_low"], line["p"]) == ("-0.484138", "0.0741799")
    assert line["runs"] == " ".join(str(tmp_path / f"s{seed}") for seed in range(3))
    half_way = next(line for line in lines(results) if line["row"] == "half_way")
    assert (half_way["differs"], half_way["APL"]) == (DIFFERS, "")
    failed = next(line for line in lines(results) if line["row"] == "KD_cls | loc")
    assert failed["status"] == f"failed: {REASON}"


def test_a_voc_headline_is_a_column(run):
    row = RowSpec("T", "G", "x", "baseline", "", "b", {0: run("r", 0.5)}, metric="VOC07")
    (line,) = lines(build([row]))
    assert (line["VOC07"], line["published_VOC07"]) == ("50", "")


def test_rows_are_read_as_they_were_written(results, tmp_path):
    """Numbers have six digits in the file, so rows that were read once are read unchanged."""
    path = tmp_path / "table.csv"
    interval, numbers = Interval(-1.5, 2.5), iter(range(1, 100))
    gain = Gain(
        *(1.5, 0.25, interval, interval, 0.125, 0.25),
        **{name: Interval(-next(numbers), next(numbers)) for name in INTERVALS[:4]},
        **{name: next(numbers) / 128 for name in TESTS[:4]},
        judgment="hurts",
        probability=Probability(0.5, Interval(0.25, 0.75)),
    )
    cell = CellFacts(0.5, 20, 0.25, None, 10, 30, 3)
    more = {"gain": gain, "cell": cell, "mean_interval": Interval(29.5, 30.5)}
    stand_ins = ("a for b", "c for d")
    rows = [
        *results[:-1],
        dataclasses.replace(results[-1], stand_ins=stand_ins, level_verdict="reproduced", **more),
    ]
    path.write_text(to_csv(rows))
    read = read_csv(path)
    assert to_csv(read) == path.read_text()
    assert read[-1] == rows[-1]
    assert [row.status for row in read] == [row.status for row in rows]


def test_a_file_of_an_earlier_version_has_no_rows(results, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(to_csv(results).replace("p_adjusted", "p_corrected"))
    assert read_csv(path) == []
