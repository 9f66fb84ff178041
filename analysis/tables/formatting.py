"""What is printed of a frame of results: grids of text and the notes under them.

Markdown and LaTeX differ only in how they set these.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.statistics.seeds import SIGNIFICANT
from analysis.tables import costs
from analysis.tables import rows as tables

NUMBER = "{:.1f}"
MARKS = "†‡§¶"
STAR, IMAGES = "*", "ⁱ"
"""After a significant gain; after an interval over images."""
ABSENT = "\u2013"
MINUS = "\u2212"
TITLES = {"VOC07": "mAP"}
"""Figures that are printed by another name."""
LEFT = {
    *("Row", "Teacher", "Student", "Seeds", "Verdict", "Status", "Detector"),
    *("Term", "Holds", "Settings", "Processor"),
}
"""Columns of words."""
BETWEEN = "; "
"""Separates clauses of remarks, and what stands in, in a cell of the frame."""
RUNS = ("runs", "baseline_runs", "teacher_runs")
MEGABYTES = 1000
"""In a gigabyte."""

Line = Mapping[str, Any]
"""A line of the frame."""


class Section(NamedTuple):
    """Rows of a grid under one title, which may be empty."""

    title: str
    rows: list[list[str]]


class Grid(NamedTuple):
    """Columns of text; no column is absent in every row."""

    header: list[str]
    sections: list[Section]


class Sheet(NamedTuple):
    """One table in print: results and cost, without rows where nothing was measured, and notes."""

    title: str
    results: Grid
    notes: list[str]
    costs: Grid
    cost_notes: list[str]


def sheets(frame: pd.DataFrame) -> list[Sheet]:
    """Return a sheet for each table of a frame of ``analysis.tables.rows.build``."""
    found = tables.grouped(tables.lines(frame), "table")
    return [_sheet(title, lines) for title, lines in found.items()]


def _sheet(title: str, lines: list[dict[str, Any]]) -> Sheet:
    mark = marks(lines)
    rows = {
        group: [_results(line, mark) for line in members]
        for group, members in tables.grouped(lines, "group").items()
    }
    spent = [_costs(line, lines) for line in lines if not pd.isna(line["hours"])]
    cost_notes = [_total(lines)] if spent else []
    return Sheet(title, _grid(rows), notes(lines), _grid({"": spent}), cost_notes)


def _grid(rows: Mapping[str, list[dict[str, str]]]) -> Grid:
    """Return rows of text by column as a grid, without the columns that say nothing."""
    every = [row for members in rows.values() for row in members]
    names = list(dict.fromkeys(name for row in every for name in row))
    header = [name for name in names if any(row.get(name, ABSENT) != ABSENT for row in every)]
    sections = [
        Section(title, [[row.get(name, ABSENT) for name in header] for row in members])
        for title, members in rows.items()
    ]
    return Grid(header, sections)


def _results(line: Line, mark: Mapping[str, str]) -> dict[str, str]:
    """Return the text of a row by column; its marks go to what was published, else to its name."""
    headline = line["metric"]
    figures = dict.fromkeys([headline, *tables.FIGURES])
    published = number(line[f"published_{headline}"])
    added = mark_of(line, mark)
    bare = published == ABSENT
    return {
        "Row": line["row"] + (added if bare else ""),
        "Teacher": line["teacher"] or ABSENT,
        "Student": line["student"] or ABSENT,
        "Seeds": line["seeds"],
        **{name_of(name): number(line[name]) for name in figures},
        name_of(headline): number(line[headline], line["std"]),
        "Gain": gain(line),
        f"Published {name_of(headline)}": published if bare else published + added,
        "Published gain": number(line["published_gain"], signed=True),
        "Verdict": ABSENT if line["verdict"] in ("", "not run") else line["verdict"],
        "Status": ABSENT if line["status"] == "ok" else line["status"],
    }


def name_of(figure: str) -> str:
    """Return the name of a figure in print."""
    return TITLES.get(figure, figure)


def number(value: float, std: float | None = None, signed: bool = False) -> str:
    """Return a figure in AP points, with its spread where several seeds give one."""
    if pd.isna(value):
        return ABSENT
    size = NUMBER.format(abs(value))
    # The sign belongs to what is printed: -0.04 is 0.0.
    sign = "" if float(size) == 0 else MINUS if value < 0 else "+" if signed else ""
    spread = "" if std is None or pd.isna(std) else f" ± {NUMBER.format(std)}"
    return sign + size + spread


def gain(line: Line) -> str:
    """Return a gain with its spread, its interval, and the mark of a significant one."""
    text = number(line["gain"], line["gain_std"], signed=True)
    for name, mark in (("gain", ""), ("image", IMAGES)):
        ends = [line[f"{name}_low"], line[f"{name}_high"]]
        if not pd.isna(ends).any():
            low, high = (number(end, signed=True) for end in ends)
            text += f" ({low} to {high}){mark}"
            break
    return text + (STAR if line["p_holm"] < SIGNIFICANT else "")


def _costs(line: Line, lines: Sequence[Line]) -> dict[str, str]:
    """Return what a row's measured runs took, as text by column."""
    several = len({other["group"] for other in lines}) > 1
    unit, hours = ("GPU-hour", "gpu_hours") if line["gpu_hours"] else ("hour", "hours")
    seeds = int(line["seeds"].split("/")[0])
    return {
        "Detector": line["group"] if several else ABSENT,
        "Row": distinct(line, lines),
        "Hours": amount(line["hours"]),
        "GPU-hours": amount(line["gpu_hours"]),
        "Images/s": amount(line["images_per_second"]),
        "Memory, GB": amount(line["memory_mb"] / MEGABYTES),
        "Energy, kWh": amount(line["energy_kwh"]),
        f"Gain per {unit}": _rate(line["gain"] / (line[hours] / seeds)),
    }


def _rate(value: float) -> str:
    size = amount(abs(value))
    return size if size == ABSENT else (MINUS if value < 0 else "+") + size


def distinct(line: Line, lines: Sequence[Line]) -> str:
    """Return a row's name, with its student or teacher where its group has the name again."""
    alike = [other for other in lines if all(other[key] == line[key] for key in ("group", "row"))]
    who = line["student"] or line["teacher"]
    return f"{line['row']} ({who})" if len(alike) > 1 and who else line["row"]


def amount(value: float) -> str:
    """Return hours, a rate or a size with two or three digits that matter."""
    if pd.isna(value) or value == 0:
        return ABSENT
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _total(lines: Sequence[Line]) -> str:
    """Say what the table took: its rows' runs and those that taught them, each once."""
    paths = [path for line in lines for key in RUNS for path in line[key].split()]
    spent = costs.total(map(Path, paths))
    unit, hours = (
        ("GPU-hours", spent.gpu_hours) if spent.gpu_hours else ("hours on CPUs", spent.hours)
    )
    gains = [line["gain"] for line in lines if not pd.isna(line["gain"])]
    total = sum(gains)
    text = f"The whole table, runs that rows share counted once: {amount(hours)} {unit}"
    if total > 0:
        text += f", {amount(hours / total)} for each point gained ({number(total)} in all)"
    return text + "."


def marks(lines: Sequence[Line]) -> dict[str, str]:
    """Return the mark of each remark of a table, in order of appearance: †, ‡, ...

    Clauses, which ``;`` separates, are one remark where they are said of the same rows.
    """
    usual = _usual_source(lines)
    places: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        for clause in _clauses(line, usual):
            places.setdefault(clause, []).append(place)
    together: dict[tuple[int, ...], list[str]] = {}
    for clause, rows in places.items():
        together.setdefault(tuple(rows), []).append(clause)
    turns = (divmod(rank, len(MARKS)) for rank in range(len(together)))
    signs = (MARKS[at] * (turn + 1) for turn, at in turns)
    return dict(zip(map(BETWEEN.join, together.values()), signs, strict=True))


def mark_of(line: Line, mark: Mapping[str, str]) -> str:
    """Return the marks of a row, given those of its table."""
    clauses = _clauses(line)
    return ",".join(sign for text, sign in mark.items() if text.split(BETWEEN)[0] in clauses)


def _clauses(line: Line, usual: str = "") -> list[str]:
    """Return what is to be said of a row alone; its source only where it is not the usual one."""
    source = f"published in {line['source']}" if line["source"] not in ("", usual) else ""
    said = BETWEEN.join([line["unlike"], line["differs"], line["note"], source]).split(BETWEEN)
    return list(dict.fromkeys(clause for clause in said if clause))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def _usual_source(lines: Sequence[Line]) -> str:
    """Return where most of a table's published numbers stand."""
    sources = [line["source"] for line in lines if line["source"]]
    return max(sources, key=sources.count, default="")


def notes(lines: Sequence[Line]) -> list[str]:
    """Return what stands under a table: its signs, what stands in, its sources and remarks."""
    mark = marks(lines)
    remarks = [f"{sign} {_sentence(text)}" for text, sign in mark.items()]
    return [*_signs(lines), *stand_ins(lines), *_published(lines, mark), *remarks]


def stand_ins(lines: Sequence[Line]) -> list[str]:
    """Say once what stands in at the scale of a table's rows, if anything does."""
    listed = (swap for line in lines for swap in line["stand_ins"].split(BETWEEN) if swap)
    swaps = ", ".join(dict.fromkeys(listed))
    return [f"At scale {lines[0]['scale']}: {swaps}."] if swaps else []


def _published(lines: Sequence[Line], mark: Mapping[str, str]) -> list[str]:
    """Say where published numbers stand, and which are not comparable with ours."""
    differing = {clause for line in lines for clause in line["differs"].split(BETWEEN) if clause}
    signs = [sign for text, sign in mark.items() if differing & set(text.split(BETWEEN))]
    said = [
        f"Published numbers: {_usual_source(lines)}",
        f"those marked {', '.join(signs)} under other conditions than ours" if signs else "",
    ]
    return [BETWEEN.join(filter(None, said)) + "."] if _usual_source(lines) else []


def _signs(lines: Sequence[Line]) -> list[str]:
    """Explain the signs that a table uses."""
    cells = [gain(line) for line in lines]
    tested = sum(not pd.isna(line["p_holm"]) for line in lines)
    over_seeds = any(not pd.isna(line["gain_low"]) for line in lines)
    family = f", corrected for the {tested} gains of this table (Holm)" if tested > 1 else ""
    found = {
        "± standard deviation over seeds.": any(not pd.isna(line["std"]) for line in lines),
        "(low to high) 95 % t interval over seeds.": over_seeds,
        f"(low to high){IMAGES} 95 % interval over resampled test images; it leaves out how "
        "runs differ from seed to seed.": any(cell.rstrip(STAR).endswith(IMAGES) for cell in cells),
        f"{STAR} p < {SIGNIFICANT:g}: paired t test over seeds{family}.": tested > 0,
    }
    return [text for text, applies in found.items() if applies]
