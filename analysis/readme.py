"""Puts measured tables and figures into README.md: ``python -m analysis.readme``."""

import re
import shutil
import sys
from pathlib import Path

from kd.errors import UserError
from kd.files import write_text
from kd.settings.run import RESULTS

SHOWN = {"rm_pfi": "smoke", "bccd": "laptop"}
"""Studies shown in the README, each at the scale it was run at."""
FIGURES = Path("docs/figures")


def main() -> None:
    """Replace what stands between the markers of each study that has been run."""
    readme = Path("README.md")
    text = readme.read_text(encoding="utf-8")
    for study, scale in SHOWN.items():
        folder = RESULTS / "tables" / study / scale
        if not (folder / "table.md").exists():
            print(f"{folder}: not run here; its part of the README stays", file=sys.stderr)
            continue
        text = insert(text, study, lowered((folder / "table.md").read_text(encoding="utf-8")))
        FIGURES.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "gains.png", FIGURES / f"{study}-{scale}.png")
    write_text(readme, text)


def insert(text: str, name: str, content: str) -> str:
    """Return ``text`` with ``content`` between the markers of ``name``; UserError without them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise UserError(f"README.md: no markers '{begin}' and '{end}'")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def lowered(markdown: str) -> str:
    """Return a document with its headings two levels lower, to stand inside another."""
    return re.sub(r"^(#+) ", r"##\1 ", markdown, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
