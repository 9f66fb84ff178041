"""Result tables in LaTeX, with booktabs; tables wider than the page are shrunk."""

from collections.abc import Iterator, Sequence

from analysis.tables.formatting import ABSENT, IMAGES, MINUS
from analysis.tables.printed import LEFT, Grid, Section, printed_tables
from analysis.tables.rows import ResultRow

PREAMBLE = r"""% Needs in the preamble:
% \usepackage[utf8]{inputenc}  % as newer LaTeX has it anyway
% \usepackage{booktabs, graphicx, rotating, textcomp}
"""
UPRIGHT = 100
"""Characters of the widest row that fits an upright page; wider tables are rotated."""
PAGE_ROWS = {"table": 36, "sidewaystable": 18}
"""Rows that fit on a page, titles of groups included; the next page continues the table."""
LONGEST = 24
"""Characters of a status that fits on one line."""
WRAPPED = "p{3.5cm}"
"""Column type of longer statuses."""

LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # LaTeX would read a row that starts with one of these as an argument of the preceding break.
    "[": "{[}",
    "*": "{*}",
    ABSENT: "--",
    MINUS: "$-$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "\u00d7": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
    "§": r"\textsuperscript{\S}",
    "¶": r"\textsuperscript{\P}",
    IMAGES: r"\textsuperscript{i}",
}
LATIN = 0x180
"""Code points below this are letters that every LaTeX knows."""


def to_latex(rows: Sequence[ResultRow], title: str = "") -> str:
    """Return floats for each table of the rows: results, measures and usage, with notes."""
    parts = [PREAMBLE]
    for table in printed_tables(rows):
        caption = f"{title}: {table.title}" if title else table.title
        parts += _floats(caption, table.results, table.notes)
        if table.measure_notes:
            caption_of_measures = f"{caption}: calibration and LRP"
            parts += _floats(caption_of_measures, table.measures, table.measure_notes)
        if table.usage_notes:
            parts += _floats(f"{caption}: cost", table.usage, table.usage_notes)
    return "\n".join(parts)


def _floats(caption: str, grid: Grid, notes: Sequence[str]) -> list[str]:
    """Return a grid as one float, or as several where it is longer than a page."""
    width = sum(min(width, LONGEST) if name == "Status" else width for name, width in _widths(grid))
    kind = "table" if width <= UPRIGHT else "sidewaystable"
    pages = list(_pages(grid, PAGE_ROWS[kind]))
    return [
        _float(kind, caption + (f" ({number} of {len(pages)})" if pages[1:] else ""), page, notes)
        for number, page in enumerate(pages, 1)
    ]


def _widths(grid: Grid) -> list[tuple[str, int]]:
    """Return the name of each column and the width of its widest cell in characters, with a gap."""
    rows = [grid.header, *(row for section in grid.sections for row in section.rows)]
    return [(column[0], max(map(len, column)) + 2) for column in zip(*rows, strict=True)]


def _pages(grid: Grid, page_rows: int) -> Iterator[Grid]:
    """Yield the grid in parts of at most ``page_rows`` rows."""
    page: list[Section] = []
    for section in grid.sections:
        for start, row in enumerate(section.rows):
            if sum(len(part.rows) + 1 for part in page) + (not start) >= page_rows:
                yield Grid(grid.header, page)
                page = []
            if not page or not start:
                page.append(Section(section.title, []))
            page[-1].rows.append(row)
    yield Grid(grid.header, page)


def _float(kind: str, caption: str, grid: Grid, notes: Sequence[str]) -> str:
    columns = "".join(
        WRAPPED if name == "Status" and width > LONGEST else "rl"[name in LEFT]
        for name, width in _widths(grid)
    )
    body = []
    for section in grid.sections:
        body.append(r"\midrule")
        if section.title:
            span = rf"\multicolumn{{{len(grid.header)}}}{{l}}"
            body.append(rf"{span}{{\emph{{{latex(section.title)}}}}} \\")
        body += map(_row, section.rows)
    lines = [
        *(rf"\begin{{{kind}}}", r"\centering\small", rf"\caption{{{latex(caption)}}}"),
        # Shrink only tables that are wider than the line.
        r"\sbox0{%",
        rf"\begin{{tabular}}{{{columns}}}",
        *(r"\toprule", _row(grid.header), *body, r"\bottomrule"),
        r"\end{tabular}}",
        r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
        *(rf"\par\smallskip\raggedright\footnotesize {latex(note)}" for note in notes),
        rf"\end{{{kind}}}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex, cells)) + r" \\"


def latex(text: str) -> str:
    """Escape the characters that LaTeX would execute; unknown ones become their code point."""
    return "".join(_escaped(character) for character in " ".join(text.split()))


def _escaped(character: str) -> str:
    code_point = ord(character)
    return LATEX.get(character) or (character if code_point < LATIN else f"U+{code_point:04X}")
