"""Result tables: from the files of runs to a frame, and from a frame to CSV, Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from analysis.statistics import paired_gain, summary
from kd.errors import UserError
from kd.evaluation import Metrics
from kd.files import read_json

POINTS = 100
"""A figure is stored as a fraction of 1 and printed in AP points."""
NUMBER = "{:.1f}"
WORDS = ("table", "group", "row", "kind", "teacher", "student", "seeds", "status", "note", "runs")
"""The columns of text; every other column is a number."""
MARKS = "†‡§¶"
ABSENT = "\u2013"
MINUS = "\u2212"


@dataclass(frozen=True)
class RowSpec:
    """One row of a published table and the runs that answer it.

    ``runs`` and ``baseline_runs`` map a seed to a run directory. ``published`` figures are in AP
    points; ``note`` says why they are not comparable with ours, where they are not.
    """

    table: str
    group: str
    label: str
    kind: Literal["teacher", "baseline", "distilled"]
    teacher: str
    student: str
    runs: Mapping[int, Path]
    baseline_runs: Mapping[int, Path] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)
    published_baseline: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    metrics: tuple[str, ...] = ("AP", "AP50", "AP75", "APS", "APM", "APL")


def build(rows: Sequence[RowSpec], headline: str = "AP") -> pd.DataFrame:
    """Return one line per row: means over seeds in AP points, and the gain in ``headline``.

    UserError where a file of a run is not what it should be.
    """
    metrics = list(dict.fromkeys([headline, *(name for row in rows for name in row.metrics)]))
    unknown = [name for name in metrics if name not in Metrics.model_fields]
    if unknown:
        raise UserError(f"no such figure in metrics.json: {', '.join(unknown)}")
    columns = [*WORDS[:-2], headline, f"{headline}_std", *metrics[1:], "gain", "gain_std"]
    columns += [*(f"published_{name}" for name in metrics), "published_gain", *WORDS[-2:]]
    frame = pd.DataFrame([_line(row, headline) for row in rows], columns=columns)
    return frame.astype({name: float for name in columns if name not in WORDS})


def _line(row: RowSpec, headline: str) -> dict[str, Any]:
    done = _measured(row.runs)
    gain = paired_gain(_points(done, headline), _points(_measured(row.baseline_runs), headline))
    means = {name: summary(_points(done, name).values()) for name in (headline, *row.metrics)}
    published = {f"published_{name}": value for name, value in row.published.items()}
    return {
        "table": row.table,
        "group": row.group,
        "row": row.label,
        "kind": row.kind,
        "teacher": row.teacher,
        "student": row.student,
        "seeds": f"{len(done)}/{len(row.runs)}",
        "status": _status(row.runs, done),
        **{name: mean.mean for name, mean in means.items()},
        f"{headline}_std": means[headline].std,
        "gain": gain.mean,
        "gain_std": gain.std,
        **published,
        "published_gain": _published_gain(row, headline),
        "note": row.note,
        "runs": " ".join(str(path) for path in row.runs.values()),
    }


def _measured(runs: Mapping[int, Path]) -> dict[int, Metrics]:
    """Return the metrics of each seed whose run has them."""
    files = {seed: path / "metrics.json" for seed, path in runs.items()}
    return {seed: Metrics.read(path) for seed, path in files.items() if path.exists()}


def _points(done: Mapping[int, Metrics], name: str) -> dict[int, float]:
    """Return figure ``name`` in AP points of each seed that defines it."""
    figures = {seed: getattr(metrics, name) for seed, metrics in done.items()}
    return {seed: POINTS * value for seed, value in figures.items() if value is not None}


def _published_gain(row: RowSpec, headline: str) -> float | None:
    if headline in row.published and headline in row.published_baseline:
        return row.published[headline] - row.published_baseline[headline]
    return None


def _status(runs: Mapping[int, Path], done: Mapping[int, Metrics]) -> str:
    """Return ok, partial, not run, or failed, the last with every reason once."""
    if runs and len(done) == len(runs):
        return "ok"
    reports = [path / "failure.json" for seed, path in runs.items() if seed not in done]
    reasons = dict.fromkeys(_reason(path) for path in reports if path.exists())
    words = ["partial"] if done else []
    words += [f"failed: {'; '.join(reasons)}"] if reasons else []
    return ", ".join(words) or "not run"


def _reason(path: Path) -> str:
    """Return the first line of a failure's reason."""
    failure = read_json(path)
    if not isinstance(failure, dict) or not isinstance(failure.get("reason"), str):
        raise UserError(f"{path}: must hold an object with a text 'reason'")
    lines = failure["reason"].strip().splitlines()
    return lines[0] if lines else "no reason given"


def groups(frame: pd.DataFrame) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Return (table, group, lines) in the order of the frame; a line maps columns to values."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for values in frame.to_numpy(dtype=object):
        line = dict(zip(frame.columns, values, strict=True))
        found.setdefault((line["table"], line["group"]), []).append(line)
    return [(table, group, lines) for (table, group), lines in found.items()]


def marks(frame: pd.DataFrame) -> dict[str, str]:
    """Return the mark of each note, in order of appearance: a dagger, a double dagger, ..."""
    notes = [note for note in dict.fromkeys(frame["note"]) if note]
    turns = [divmod(rank, len(MARKS)) for rank in range(len(notes))]
    return {note: MARKS[mark] * (turn + 1) for note, (turn, mark) in zip(notes, turns, strict=True)}


class _Section(NamedTuple):
    """One group as text: cells line by line, and whether the line has figures to show."""

    group: str
    cells: list[list[str]]
    measured: list[bool]


LABELS = ("Row", "Teacher", "Student", "Seeds")


def _tables(frame: pd.DataFrame) -> dict[str, list[_Section]]:
    """Return the sections of each table, both in the order of the frame."""
    metrics, mark = _metrics(frame), marks(frame)
    tables: dict[str, list[_Section]] = {}
    for table, group, lines in groups(frame):
        cells = [_cells(line, metrics, mark.get(line["note"], "")) for line in lines]
        section = _Section(group, cells, [_is_measured(line) for line in lines])
        tables.setdefault(table, []).append(section)
    return tables


def _metrics(frame: pd.DataFrame) -> list[str]:
    """Return the names of the figures in the frame, the headline first."""
    names = [name for name in frame.columns if f"published_{name}" in frame.columns]
    return [name for name in names if name != "gain"]


def _header(metrics: Sequence[str]) -> list[str]:
    return [*LABELS, *metrics, "Gain", f"Published {metrics[0]}", "Published gain"]


def _is_measured(line: Mapping[str, Any]) -> bool:
    return line["status"].startswith(("ok", "partial"))


def _cells(line: Mapping[str, Any], metrics: Sequence[str], mark: str) -> list[str]:
    """Return the text of one line; ``mark`` goes to what was published, else to the label."""
    label, seeds = line["row"], line["seeds"] + line["status"].removeprefix("partial")
    figures = [_number(line[name], line.get(f"{name}_std")) for name in metrics]
    if _is_measured(line):
        seeds = seeds.removesuffix("ok")
    else:
        seeds, figures[0] = line["seeds"], line["status"]
    published = _number(line[f"published_{metrics[0]}"])
    both = [published, _number(line["published_gain"], signed=True)]
    if both == [ABSENT, ABSENT]:
        label += mark
    return [
        *(label, line["teacher"] or ABSENT, line["student"] or ABSENT, seeds),
        *figures,
        _number(line["gain"], line["gain_std"], signed=True),
        *(text if text == ABSENT else text + mark for text in both),
    ]


def _number(value: float, std: float | None = None, signed: bool = False) -> str:
    """Return a figure in AP points, with its spread where several seeds give one."""
    if pd.isna(value):
        return ABSENT
    size = NUMBER.format(abs(value))
    # The sign belongs to what is printed: -0.04 is 0.0.
    sign = "" if float(size) == 0 else MINUS if value < 0 else "+" if signed else ""
    spread = "" if std is None or pd.isna(std) else f" ± {NUMBER.format(std)}"
    return sign + size + spread


def to_csv(frame: pd.DataFrame) -> str:
    """Return every column of the frame; an absent value is an empty cell."""
    return frame.to_csv(index=False, float_format="%.4f", lineterminator="\n")


def to_markdown(frame: pd.DataFrame, title: str = "Results") -> str:
    """Return a heading for each table, a grid for each group, and the footnotes."""
    parts = [f"# {_markdown(title)}"]
    for table, sections in _tables(frame).items():
        parts.append(f"## {_markdown(table)}")
        for section in sections:
            parts.append(f"### {_markdown(section.group)}")
            parts.append(_markdown_grid(_header(_metrics(frame)), section.cells))
    parts += [f"{mark} {_markdown(note)}" for note, mark in marks(frame).items()]
    return "\n\n".join(parts) + "\n"


def _markdown_grid(header: list[str], cells: list[list[str]]) -> str:
    rule = ["---"] * len(LABELS) + ["---:"] * (len(header) - len(LABELS))
    texts = [list(map(_markdown, line)) for line in (header, *cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (texts[0], rule, *texts[1:]))


def _markdown(text: str) -> str:
    """Escape what would end a cell, start emphasis or start a tag."""
    return "".join("\\" + one if one in "\\|*_<`[" else one for one in " ".join(text.split()))


LATEX = {one: "\\" + one for one in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A row that starts with one of these would be read as an argument of the break before it.
    "[": "{[}",
    "*": "{*}",
    ABSENT: "--",
    MINUS: "$-$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "\u00d7": r"$\times$",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
    "§": r"\textsuperscript{\S}",
    "¶": r"\textsuperscript{\P}",
}


def _latex(text: str) -> str:
    return "".join(LATEX.get(one, one) for one in " ".join(text.split()))


def to_latex(frame: pd.DataFrame, title: str = "") -> str:
    r"""Return one ``table`` per table of the frame; needs ``\usepackage{booktabs}``."""
    header = _header(_metrics(frame))
    parts = []
    for table, sections in _tables(frame).items():
        used = set(frame["note"][frame["table"] == table])
        notes = [f"{mark} {note}" for note, mark in marks(frame).items() if note in used]
        caption = f"{title}: {table}" if title else table
        parts.append(_latex_table(caption, header, sections, notes))
    return "\n".join(parts)


def _latex_table(
    caption: str, header: list[str], sections: Sequence[_Section], notes: Sequence[str]
) -> str:
    width = len(header)
    body = []
    for section in sections:
        body += [
            r"\midrule",
            rf"\multicolumn{{{width}}}{{l}}{{\emph{{{_latex(section.group)}}}}} \\",
        ]
        body += map(_latex_line, section.cells, section.measured)
    lines = [
        *(r"\begin{table}", r"\centering", rf"\caption{{{_latex(caption)}}}"),
        rf"\begin{{tabular}}{{{'l' * len(LABELS)}{'r' * (width - len(LABELS))}}}",
        *(r"\toprule", " & ".join(map(_latex, header)) + r" \\", *body, r"\bottomrule"),
        r"\end{tabular}",
        *(rf"\par\footnotesize {_latex(note)}" for note in notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_line(cells: list[str], measured: bool) -> str:
    """Return one row; the status of one without figures spans their columns and the gain's."""
    texts = list(map(_latex, cells))
    if not measured:
        first, last = len(LABELS), len(cells) - 2
        span = rf"\multicolumn{{{last - first}}}{{l}}{{\emph{{{texts[first]}}}}}"
        texts[first:last] = [span]
    return " & ".join(texts) + r" \\"
