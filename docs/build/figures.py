"""Catalog of the analyses in ``docs/reference/figures.md``: ``python -m docs.build.figures``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from analysis import figures
from analysis.figures.base import Analysis
from analysis.figures.columns import COLUMNS
from docs.build.markdown import anchor, grid
from kd.common.files import write_text

PAGE = Path("docs/reference/figures.md")
INTRODUCTION = """# Catalog of figures

An *analysis* turns finished runs into pictures (PDF and PNG), CSV files with all numbers in them,
and a caption (`caption.md`). This page lists every analysis. [The gallery](gallery.md) shows a
picture of each, and [the guide](../how-to/figures.md) explains how to draw one.

`python -m docs.build.figures` writes this page from the classes of the analyses. `kd figures NAME`
prints the same definition and settings."""
SHARED = """Runs that differ only in their seed form one row of a figure. Every analysis writes
`caption.md` besides the files listed here: the findings, the definition, the settings, the runs,
and a warning about runs that cannot be compared."""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page())


def page() -> str:
    """Return the text of the page."""
    kinds = {name: figures.get(name) for name in figures.names()}
    overview = grid(
        ["analysis", "question", "files that it reads of each run"],
        (
            [f"[`{name}`](#{anchor(name)})", kind.question, _code(kind.reads)]
            for name, kind in kinds.items()
        ),
    )
    sections = [text for name, kind in kinds.items() for text in _section(name, kind)]
    return "\n\n".join([INTRODUCTION, overview, SHARED, *sections]) + "\n"


def _section(name: str, kind: type[Analysis]) -> Iterator[str]:
    """Yield title, question, definition, settings and files of an analysis."""
    yield f"## {name}"
    yield f"**{kind.title}.** {kind.question}"
    yield kind.definition()
    defaults = kind().model_dump(mode="json")
    settings = (
        [f"`{key}`", f"`{json.dumps(value)}`", _cell(kind.meaning(key))]
        for key, value in defaults.items()
    )
    yield grid(["setting", "default", "meaning"], settings)
    photographs = [f"`{stem}`" for stem in kind.photographs]
    note = f" {' and '.join(photographs)}: with images of the data set." if photographs else ""
    yield f"Pictures: {_code(kind.pictures)}.{note}"
    for table in kind.tables:
        columns = ([f"`{key}`", text] for key, text in COLUMNS[table].items())
        yield f"`{table}.csv`:\n\n{grid(['column', 'content'], columns)}"


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _cell(text: str) -> str:
    """Return a docstring as the text of a cell in Markdown."""
    line = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"``(.+?)``", r"`\1`", line)


if __name__ == "__main__":
    main()
