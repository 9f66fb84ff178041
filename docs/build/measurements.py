"""Puts what was measured into the documents that show it: ``python -m docs.build.measurements``."""

import re
import shutil
import sys
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import write_text
from kd.common.results import RESULTS
from kd.config.run import study_folder

SHOWN = {"README.md": {"demo": "smoke"}}
"""Studies shown in each document, at the scale they were run at."""
MEASURED = {
    "docs/methods/README.md": ["step_time-retinanet", "step_time-faster_rcnn"],
    "docs/architecture.md": ["errors"],
    "docs/profiling.md": ["profile"],
    "docs/speed.md": [
        *("suite-cpu", "step_time-smoke", "shortcuts", "allocator", "teacher_cache", "loop"),
        *("loader", "start", "loop-bfloat16", "compile", "evaluation", "workflow", "growth"),
    ],
    "docs/statistics.md": ["bootstrap"],
    "benchmarks/peers/README.md": ["peers"],
}
"""What benchmarks and ``kd profile`` wrote, by name; a picture of that name goes along."""
FIGURES = Path("docs/figures")


def main() -> None:
    """Replace what stands between the markers of everything that has been run here."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    for document, studies in SHOWN.items():
        for study, scale in studies.items():
            folder = study_folder(study, scale)
            if show(Path(document), study, folder / "table.md"):
                for path in folder.glob("gains/*.png"):
                    shutil.copyfile(path, FIGURES / f"{study}-{scale}-{path.name}")
    for document, names in MEASURED.items():
        for name in names:
            source = RESULTS / "benchmarks" / f"{name}.md"
            if show(Path(document), name, source) and source.with_suffix(".png").exists():
                shutil.copyfile(source.with_suffix(".png"), FIGURES / f"{name}.png")


def show(document: Path, name: str, source: Path) -> bool:
    """Put a file between the markers of ``name``; say so where it is absent."""
    if not source.exists():
        print(f"{source}: not made here; its part of {document} stays", file=sys.stderr)
        return False
    content = lowered(source.read_text(encoding="utf-8"))
    write_text(document, insert(document.read_text(encoding="utf-8"), name, content, document))
    return True


def insert(text: str, name: str, content: str, document: Path) -> str:
    """Return ``text`` with ``content`` between the markers of ``name``; UserError without them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise UserError(f"{document}: no markers '{begin}' and '{end}'")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def lowered(markdown: str) -> str:
    """Return a document with its headings two levels lower, to stand inside another."""
    return re.sub(r"^(#+) ", r"##\1 ", markdown, flags=re.MULTILINE)


if __name__ == "__main__":
    main()
