r"""Tables of results in LaTeX: booktabs, shrunk to the page where they are wider."""

from collections.abc import Iterator, Sequence

from analysis.tables.formatting import ABSENT, IMAGES, MINUS
from analysis.tables.printed import LEFT, Grid, Section, printed_tables
from analysis.tables.rows import ResultRow

PREAMBLE = r"""% Needs in the preamble:
% \usepackage[utf8]{inputenc}  % as newer LaTeX has it anyway
% \usepackage{booktabs, graphicx, rotating, textcomp}
"""
UPRIGHT = 100
"""Characters of the widest row that an upright page holds; wider tables are turned."""
MOST = {"table": 36, "sidewaystable": 18}
"""Rows on a page, titles of groups included; more are continued on the next."""
LONGEST = 24
"""Characters of a status in one line."""
REASON = "p{3.5cm}"
"""The column of longer ones."""

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
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "†": r"\textsuperscript{\textdagger}",
    "‡": r"\textsuperscript{\textdaggerdbl}",
    "§": r"\textsuperscript{\S}",
    "¶": r"\textsuperscript{\P}",
    IMAGES: r"\textsuperscript{i}",
}
LATIN = 0x180
"""Letters below this are known to every LaTeX."""


def to_latex(rows: Sequence[ResultRow], title: str = "") -> str:
    """Return floats for each table of the rows: its results with notes, and its cost."""
    parts = [PREAMBLE]
    for table in printed_tables(rows):
        caption = f"{title}: {table.title}" if title else table.title
        parts += _floats(caption, table.results, table.notes)
        if table.cost_notes:
            parts += _floats(f"{caption}: cost", table.costs, table.cost_notes)
    return "\n".join(parts)


def _floats(caption: str, grid: Grid, notes: Sequence[str]) -> list[str]:
    """Return a grid as one float, or as several where it is longer than a page."""
    kind = "table" if _width(grid) <= UPRIGHT else "sidewaystable"
    pages = list(_pages(grid, MOST[kind]))
    return [
        _float(kind, caption + (f" ({number} of {len(pages)})" if pages[1:] else ""), page, notes)
        for number, page in enumerate(pages, 1)
    ]


def _width(grid: Grid) -> int:
    """Return the characters of a row as wide as the widest cell of each column."""
    return sum(min(width, LONGEST) if name == "Status" else width for name, width in _widths(grid))


def _widths(grid: Grid) -> list[tuple[str, int]]:
    """Return the name of each column and the characters of its widest cell, with a gap."""
    rows = [grid.header, *(row for section in grid.sections for row in section.rows)]
    return [(column[0], max(map(len, column)) + 2) for column in zip(*rows, strict=True)]


def _pages(grid: Grid, most: int) -> Iterator[Grid]:
    """Yield the grid cut between rows such that no part has more than ``most``."""
    page: list[Section] = []
    for section in grid.sections:
        for start, row in enumerate(section.rows):
            if sum(len(each.rows) + 1 for each in page) + (not start) >= most:
                yield Grid(grid.header, page)
                page = []
            if not page or not start:
                page.append(Section(section.title, []))
            page[-1].rows.append(row)
    yield Grid(grid.header, page)


def _float(kind: str, caption: str, grid: Grid, notes: Sequence[str]) -> str:
    columns = "".join(
        REASON if name == "Status" and width > LONGEST else "rl"[name in LEFT]
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
        # Only a table that is too wide is made smaller.
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
    """Escape what LaTeX would execute or does not know; the latter becomes its code point."""
    return "".join(_escaped(one) for one in " ".join(text.split()))


def _escaped(one: str) -> str:
    return LATEX.get(one) or (one if ord(one) < LATIN else f"U+{ord(one):04X}")
