"""Insert measurements into the documents that show them: ``python -m docs.build.measurements``."""

import logging
import re
import shutil
from pathlib import Path

from kd.common.errors import UserError
from kd.common.files import write_text
from kd.common.results import RESULTS
from kd.config.run import study_folder

logger = logging.getLogger(__name__)

STUDIES = {"docs/tutorials/first-table.md": {"demo": "smoke"}}
"""Studies in each document, with the scale of their runs."""
MEASUREMENTS = {
    "docs/reference/methods.md": [
        *("step_time-retinanet", "step_time-faster_rcnn"),
        *("step_time-retinanet-added", "step_time-gfl-added"),
    ],
    "docs/explanation/architecture.md": ["errors"],
    "docs/explanation/profiling.md": ["profile"],
    "docs/explanation/speed.md": [
        *("suite-cpu", "step_time-smoke", "shortcuts", "allocator", "teacher_cache", "loop"),
        *("loader", "start", "loop-bfloat16", "compile", "evaluation", "workflow", "growth"),
        "accumulation",
    ],
    "docs/explanation/statistics.md": ["bootstrap"],
    "docs/explanation/simulation.md": [
        *("simulation-verdicts", "simulation-power", "simulation-no-gain", "simulation-looks"),
        *("simulation-images", "simulation-cells"),
    ],
    "benchmarks/peers/README.md": ["peers"],
}
"""Outputs of benchmarks and ``kd profile`` in each document, with a picture if there is one."""
FIGURES = Path("docs/figures")


def main() -> None:
    """Insert every measurement under ``results/`` between its markers."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    for document, studies in STUDIES.items():
        for study, scale in studies.items():
            folder = study_folder(study, scale)
            if insert_file(Path(document), study, folder / "table.md"):
                for path in folder.glob("gains/*.png"):
                    shutil.copyfile(path, FIGURES / f"{study}-{scale}-{path.name}")
    for document, names in MEASUREMENTS.items():
        for name in names:
            source = RESULTS / "benchmarks" / f"{name}.md"
            if insert_file(Path(document), name, source) and source.with_suffix(".png").exists():
                shutil.copyfile(source.with_suffix(".png"), FIGURES / f"{name}.png")


def insert_file(document: Path, name: str, source: Path) -> bool:
    """Insert a file between the markers of ``name``; return False if it does not exist."""
    if not source.exists():
        logger.warning("%s: no such file; its part of %s is not changed", source, document)
        return False
    content = with_lower_headings(source.read_text(encoding="utf-8"))
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


def with_lower_headings(markdown: str) -> str:
    """Return a document with its headings two levels lower, as a part of another document."""
    return re.sub(r"^(#+) ", r"##\1 ", markdown, flags=re.MULTILINE)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    main()
