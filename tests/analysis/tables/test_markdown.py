"""Printed tables in Markdown, and thereby the text of their cells."""

from dataclasses import replace

import pytest

from analysis.tables.csv_file import read_csv, to_csv
from analysis.tables.formatting import ABSENT, MINUS
from analysis.tables.markdown import to_markdown
from analysis.tables.miniature import printable
from analysis.tables.rows import WEAK_TEACHER, RowSpec, build

MARKDOWN = r"""
# Study

## Table 1

### RetinaNet

| Row            | Teacher | Student | Seeds |         AP | AP50 | AP75 |  APS |  APM |  APL |              Gain, 95 % CI | Moderated 95 % CI | Judgment     | Published AP | Published gain | Verdict on AP  | Verdict        | Status |
| -------------- | ------- | ------- | ----- | ---------: | ---: | ---: | ---: | ---: | ---: | -------------------------: | ----------------: | ------------ | -----------: | -------------: | -------------- | -------------- | ------ |
| Teacher        | R50     | -       | 1/1   |       36.1 | 36.1 | 36.1 | 36.1 | 36.1 | 36.1 |                          - |                 - | -            |            - |              - | -              | -              | -      |
| Student        | -       | R18     | 3/3   | 31.0 ± 1.0 | 31.0 | 31.0 | 31.0 | 31.0 | 31.0 |                          - |                 - | -            |            - |              - | -              | -              | -      |
| RM + PFI       | R50     | R18     | 3/3   | 33.0 ± 2.0 | 33.0 | 33.0 | 33.0 | 33.0 | 33.0 |  +2.0 ± 1.0 (-0.8 to +4.8) |      -0.8 to +4.8 | undetermined |         34.8 |           +2.9 | inconclusive   | inconclusive   | -      |
| even           | R50     | R18     | 3/3   | 33.0 ± 1.1 | 33.0 | 33.0 | 33.0 | 33.0 | 33.0 | +2.0 ± 0.1 (+0.2 to +3.8)* |      +0.9 to +3.1 | helps        |            - |              - | -              | -              | -      |
| half\_way      | R50     | R18     | 1/3   |       30.5 | 30.5 | 30.5 | 30.5 | 30.5 |    - |      +0.9 (-45.1 to +46.8) |    -45.1 to +46.8 | undetermined |        34.8† |           +2.9 | not comparable | not comparable | partial, failed: killed |

### FCOS

| Row            | Teacher | Student | Seeds |         AP | AP50 | AP75 |  APS |  APM |  APL |              Gain, 95 % CI | Moderated 95 % CI | Judgment     | Published AP | Published gain | Verdict on AP  | Verdict        | Status |
| -------------- | ------- | ------- | ----- | ---------: | ---: | ---: | ---: | ---: | ---: | -------------------------: | ----------------: | ------------ | -----------: | -------------: | -------------- | -------------- | ------ |
| KD\_cls \| loc | R50     | R18     | 0/2   |          - |    - |    - |    - |    - |    - |                          - |                 - | -            |        34.8‡ |           +2.9 | -              | -              | failed: out of memory: 17 GB of 16 |
| absent         | R50     | R18     | 0/2   |          - |    - |    - |    - |    - |    - |                          - |                 - | -            |            - |              - | -              | -              | not started |

- ± standard deviation over seeds.
- (low to high) 95 % interval over seeds, for all 5 planned gains of this table together (Dunnett, one baseline).
- \* helps or hurts: the interval over seeds excludes 0.
- undetermined: neither shown to differ from 0 nor to be worth less than half a point.
- Where runs are missing, a gain is the estimate of the model from all rows. It can differ from the mean over shared seeds.
- Residual standard deviation 0.55 points, 4 degrees of freedom; equal variances: p 0.016 (gains), p 0.43 (runs); they differ, which the interval by a moderated variance allows for.
- All seeds of a row have the same teacher: intervals over seeds leave out the variation between teachers.
- Published numbers: arXiv 1. Those marked † have other conditions than ours.
- † 2x schedule & a trained student (50% of its layers).
- ‡ Quoted from Table 6 of another paper; published in arXiv 2.

### Cost

| Detector  | Row      | Hours | Training images/s | Training memory, GB |
| --------- | -------- | ----: | ----------------: | ------------------: |
| RetinaNet | Teacher  |  4.00 |              20.0 |                1.50 |
| RetinaNet | Student  |  3.00 |              20.0 |                1.50 |
| RetinaNet | RM + PFI |  6.00 |              20.0 |                1.50 |

- All trainings of the table, shared ones counted once: 13.0 hours on CPUs.
"""  # noqa: E501


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"split": "val", "early_split": "val"}, "All rows are measured on the validation split."),
        ({"early_split": "test"}, "No validation split: AP during training and sweeps were"),
        ({"early_split": "val"}, ""),
        ({}, ""),
    ],
)
def test_a_note_names_the_split_of_rows_or_the_lack_of_a_validation_split(run, more, note):
    folder = run("r", 0.3)
    if more.get("split") == "val":
        (folder / "val").mkdir()
        (folder / "metrics.json").rename(folder / "val/metrics.json")
    rows = build([RowSpec("T", "G", "x", "baseline", "", "b", {0: folder}, **more)])
    assert rows[0].headline == 30
    lines = [line for line in to_markdown(rows).splitlines() if "split" in line]
    assert [line.startswith(f"- {note}") for line in lines] == [True] * bool(note)
    (folder / "table.csv").write_text(to_csv(rows))
    (row,) = read_csv(folder / "table.csv")
    assert (row.split, row.early_split) == (rows[0].split, rows[0].early_split)


def test_rows_in_every_state(results):
    """The trainings took 4 + 3 + 6 hours."""
    text = to_markdown(results, "Study").replace(ABSENT, "-").replace(MINUS, "-")
    assert text.splitlines() == MARKDOWN.strip().splitlines()


def test_columns_line_up(results):
    grids = [line for line in to_markdown(results).splitlines() if line.startswith("|")]
    results, cost = grids[:11], grids[11:]
    assert len({line.rindex("|", 0, -1) for line in results}) == 1  # before the status
    assert len({len(line) for line in cost}) == 1


def one(label, runs, base=None, **more):
    group = more.pop("group", "G")
    kind = "distilled" if base else "baseline"
    return RowSpec("T", group, label, kind, "a" if base else "", "b", runs, base or {}, **more)


def row_of(text, label):
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {label} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_one_seed_has_a_marked_interval_over_images(run):
    base = {0: run("base", 0.30, spread=1.0)}
    text = to_markdown(build([one("x", {0: run("s", 0.32, spread=2.0)}, base)]))
    assert row_of(text, "x")[-1] == "+2.0 (+2.0 to +3.0)ⁱ"
    assert "- (low to high)ⁱ 95 % interval over resampled test images" in text
    assert "over seeds" not in text


@pytest.mark.parametrize(("planned", "star"), [(1, "*"), (2, "*"), (12, "")])
def test_the_mark_is_that_of_all_planned_gains_of_the_table(run, planned, star):
    """Gains 1.4, 2.0, 2.6: t = 2 sqrt(3) / 0.6 and p = 0.0287 alone."""
    base = {seed: run(f"base{seed}", 0.30) for seed in range(3)}
    runs = {seed: run(f"x-{seed}", ap) for seed, ap in enumerate((0.314, 0.320, 0.326))}
    absent = [{seed: run(f"{n}-{seed}") for seed in range(3)} for n in range(planned - 1)]
    rows = [one("x", runs, base), *(one(f"y{n}", more, base) for n, more in enumerate(absent))]
    text = to_markdown(build(rows))
    cells = dict(zip(row_of(text, "Row"), row_of(text, "x"), strict=True))
    assert cells["Gain, 95 % CI"].startswith("+2.0 ± 0.6 (") and cells["Student"] == "b"
    assert cells["Gain, 95 % CI"].endswith(f"){star}")
    assert cells["Judgment"] == ("helps" if star else "undetermined")


def test_losses_have_a_true_minus_and_zero_no_sign(run):
    base = {0: run("base", 0.3)}
    rows = [one("worse", {0: run("w", 0.288)}, base), one("same", {0: run("s", 0.2998)}, base)]
    text = to_markdown(build(rows))
    assert row_of(text, "worse")[-1] == f"{MINUS}1.2"
    assert row_of(text, "same")[-1] == "0.0"


def test_empty_columns_are_left_out(run):
    runs = {0: run("r", 0.3, APL=None)}
    header = to_markdown(build([one("x", runs)])).splitlines()[6]
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        *("Row", "Student", "Seeds", "AP", "AP50", "AP75", "APS", "APM"),
    ]


def test_a_voc_table_leads_with_its_map(run):
    voc = {"metric": "VOC07", "published": {"VOC07": 76.0}, "published_baseline": {"VOC07": 74.5}}
    runs, base = {0: run("s", 0.5, VOC07=0.75)}, {0: run("b", 0.5, VOC07=0.72)}
    text = to_markdown(build([one("x", runs, base, **voc)]))
    header = row_of(text, "Row")
    assert header[4:6] == ["mAP", "AP"]
    assert header[-4:] == ["Gain, 95 % CI", "Published mAP", "Published gain", "Verdict"]
    assert row_of(text, "x")[4:6] == ["75.0", "50.0"]
    assert row_of(text, "x")[-4:-1] == ["+3.0", "76.0", "+1.5"]


def test_stand_ins_are_listed_once_for_a_table(run):
    swaps = (["a for b", "c for d"], ["a for b", "e for f"], ["a for b"])
    rows = [
        one(f"row{rank}", {0: run(f"r{rank}")}, stand_ins=stand_ins, scale="smoke")
        for rank, stand_ins in enumerate(swaps)
    ]
    text = to_markdown(build(rows))
    assert "- Stand-ins at scale smoke: a for b, c for d, e for f.\n" in text
    assert text.count("a for b") == 1


def test_a_remark_without_published_value_marks_the_name(run):
    rows = [
        one(label, {0: run(label)}, notes=(note,) if note else ())
        for label, note in (("one", "first"), ("two", "second"), ("three", "first"), ("four", ""))
    ]
    text = to_markdown(build(rows))
    for part in ("| one† ", "| two‡ ", "| three† ", "| four ", "- † First.\n- ‡ Second.\n"):
        assert part in text


def test_clauses_that_several_rows_share_are_one_remark(run):
    """A and b always come together, c with them or alone, d is no reason not to compare."""
    clauses = {"one": ("ab", ""), "two": ("abc", ""), "three": ("c", "d"), "four": ("", "d")}
    rows = [
        one(
            label,
            {0: run(label)},
            differs=[*differs],
            notes=[*notes],
            published={"AP": 30.0},
            source="X",
        )
        for label, (differs, notes) in clauses.items()
    ]
    text = to_markdown(build(rows))
    cells = [row_of(text, label)[3] for label in clauses]
    assert cells == ["30.0†", "30.0†,‡", "30.0‡,§", "30.0§"]
    assert text.endswith(
        "- Published numbers: X. Those marked †, ‡ have other conditions than ours.\n"
        "- † A; b.\n- ‡ C.\n- § D.\n"
    )


def test_a_fifth_remark_has_two_daggers(run):
    rows = [one(name, {0: run(name)}, notes=(f"remark {name}",)) for name in "abcde"]
    assert "| e†† " in to_markdown(build(rows))


def test_marks_start_anew_in_each_table(run):
    rows = [
        RowSpec(
            table, "G", "x", "baseline", "", "b", {0: run(table)}, notes=(note,) if note else ()
        )
        for table, note in (("One", "first"), ("Two", "second"))
    ]
    text = to_markdown(build(rows))
    assert "- † First." in text.split("## Two")[0]
    assert "- † Second." in text.split("## Two")[1]


def test_cost_of_gpus_counts_shared_runs_once(run):
    """A classifier took 2, the rows 4 + 8 + 8."""
    base = {0: run("base", 0.30, hours=1, gpus=4)}
    classifier = run("classifier", hours=1, gpus=2)
    rows = [one("Student", base)] + [
        one(label, {0: run(label, ap, hours=1, gpus=8)}, base, teacher_runs=[classifier])
        for label, ap in (("x", 0.32), ("y", 0.33))
    ]
    text = to_markdown(build(rows)).split("### Cost")[1]
    assert row_of(text, "Row")[-1] == "Training memory, GB"
    assert row_of(text, "Student")[1:3] == ["1.00", "4.00"]
    assert row_of(text, "y") == ["y", "1.00", "8.00", "20.0", "1.50"]
    assert "counted once: 22.0 GPU-hours." in text


def scaled(run, scale, seeds, **more):
    """Return results of a student and a method with a published gain."""
    base = {seed: run(f"base{seed}", 0.30) for seed in range(seeds)}
    runs = {seed: run(f"x{seed}", 0.31 + seed / 100) for seed in range(seeds)}
    published = {"published": {"AP": 33.3}, "published_baseline": {"AP": 31.9}, "source": "arXiv 1"}
    more = published | {"differs": ("2x schedule",), "notes": ("quoted",), "scale": scale} | more
    return build([one("Student", base, scale=scale), one("x", runs, base, **more)])


def test_one_seed_below_the_scale_of_the_paper_has_no_published_numbers(run):
    """A reader would take them for what was reproduced; ``table.csv`` has them."""
    rows = scaled(run, "smoke", 1)
    text = to_markdown(rows)
    assert "\n\n**Miniature: tests the pipeline, not the method.**\n\n" in text
    assert row_of(text, "Row")[-2:] == ["Gain, 95 % CI", "Verdict"]
    for absent in ("33.3", "+1.4", "arXiv 1", "2x schedule", "uoted", "†"):
        assert absent not in text
    assert "- Published numbers are left out: results of one seed below scale paper" in text
    assert "33.3" in to_csv(rows) and "2x schedule" in to_csv(rows)


def test_several_seeds_below_the_scale_of_the_paper_have_published_numbers(run):
    text = to_markdown(scaled(run, "smoke", 2))
    assert "**Miniature: results hold for this data and these networks" in text
    assert row_of(text, "Row")[-3:] == ["Published AP", "Published gain", "Verdict"]
    assert row_of(text, "x")[-3:-1] == ["33.3†", "+1.4"]


def test_the_scale_of_the_paper_has_no_warning(run):
    text = to_markdown(scaled(run, "paper", 1))
    assert "**" not in text and row_of(text, "x")[-4:-2] == ["33.3†", "+1.4"]


def test_own_data_is_no_miniature_of_anything_published(run):
    unpublished = {
        "published": {},
        "published_baseline": {},
        "source": "",
        "differs": (),
        "notes": (),
    }
    assert "**Reduced scale: results hold for these networks" in to_markdown(
        scaled(run, "laptop", 2, **unpublished)
    )


def test_own_data_with_the_networks_of_the_study_need_seeds_alone(run):
    assert "**One seed: too little to compare methods.**" in to_markdown(scaled(run, "own", 1))


def test_the_remark_on_a_weak_teacher_remains_in_a_miniature(run):
    row = scaled(run, "smoke", 1)[1]
    (printed,) = printable([replace(row, notes=(f"{WEAK_TEACHER} (1.0 and 2.0)", "quoted"))])
    assert printed.notes == (f"{WEAK_TEACHER} (1.0 and 2.0)",)


def test_rows_of_one_name_have_distinct_names_in_the_cost(run):
    rows = [
        RowSpec("T", "G", "Student", "baseline", "", student, {0: run(student, 0.3, hours=1)})
        for student in ("R18", "R34")
    ]
    text = to_markdown(build(rows)).split("### Cost")[1]
    assert row_of(text, "Student (R18)")[1] == "1.00"
    assert row_of(text, "Student (R34)")[1] == "1.00"


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a | b", r"a \| b"),
        ("*so*", r"\*so\*"),
        ("a_b", r"a\_b"),
        ("<b>", r"\<b>"),
        ("+2.0*", "+2.0*"),
    ],
)
def test_signs_of_markdown_are_escaped(run, text, printed):
    assert f"| {printed} |" in to_markdown(build([one(text, {0: run("r", 0.3)})]))
