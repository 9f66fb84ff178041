"""Result tables in Markdown, with columns that are aligned in a terminal, too."""

import re
from collections.abc import Sequence

from analysis.tables.miniature import warning
from analysis.tables.printed import LEFT, Grid, PrintedTable, printed_tables
from analysis.tables.rows import ResultRow


def to_markdown(rows: Sequence[ResultRow], title: str = "Results") -> str:
    """Return each table under a heading: a grid for each group of its rows, measures and usage.

    A warning precedes results below the scale of the paper.
    """
    parts = [f"# {escaped(title)}"]
    if text := warning(rows):
        parts.append(f"**{text}**")
    for table in printed_tables(rows):
        parts += _table(table)
    return "\n\n".join(parts) + "\n"


def _table(table: PrintedTable) -> list[str]:
    parts = [f"## {escaped(table.title)}", *grids(table.results), *bullets(table.notes)]
    if table.measure_notes:
        parts += ["### Calibration and LRP", *grids(table.measures), *bullets(table.measure_notes)]
    if table.usage_notes:
        parts += ["### Cost", *grids(table.usage), *bullets(table.usage_notes)]
    return parts


def bullets(notes: list[str]) -> list[str]:
    """Return notes as one bulleted list; none without notes."""
    return ["\n".join(f"- {escaped(note)}" for note in notes)] if notes else []


def grids(grid: Grid) -> list[str]:
    """Return each section under its title; all sections have the same column widths."""
    texts = [[list(map(escaped, row)) for row in section.rows] for section in grid.sections]
    columns = zip(grid.header, *(row for rows in texts for row in rows), strict=True)
    # The status column is the last one and may hold a long reason: no cell needs padding there.
    widths = [len(name) if name == "Status" else max(3, *map(len, [name, *cells]))
              for name, *cells in columns]  # fmt: skip
    left = [name in LEFT for name in grid.header]
    rule = ["-" * width if is_left else "-" * (width - 1) + ":"
            for width, is_left in zip(widths, left, strict=True)]  # fmt: skip

    def line(cells: list[str]) -> str:
        padded = (
            text.ljust(width) if is_left else text.rjust(width)
            for text, width, is_left in zip(cells, widths, left, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    parts = []
    for section, rows in zip(grid.sections, texts, strict=True):
        parts += [f"### {escaped(section.title)}"] if section.title else []
        parts.append("\n".join(map(line, [grid.header, rule, *rows])))
    return parts


def escaped(text: str) -> str:
    """Escape the characters that would end a cell, start emphasis or start a tag."""
    words = " ".join(text.split())
    # A single star at the end, after a significant gain, starts no emphasis.
    end = "*" if words.endswith("*") and words.count("*") == 1 else ""
    return re.sub(r"[\\|*_`\[]|<(?! )", r"\\\g<0>", words.removesuffix(end)) + end
