"""Page of the figures that exist here: ``python -m docs.build.gallery``."""

import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from analysis import figures
from analysis.figures.planning import PlannedFigure, plan_figures
from kd.common.files import replacing, write_text
from kd.config.library import Library
from kd.config.plan import Plan, plan

logger = logging.getLogger(__name__)

STUDIES = {"demo": "smoke", "sensitivity": "smoke", "ours": "mini", "bccd": "laptop"}
"""Studies and their scales, in the order of the page."""
PHOTOGRAPHS = frozenset({"bccd"})
"""Studies with images of others, whose pictures of images are left out."""
PAGE, PICTURES = Path("docs/reference/gallery.md"), Path("docs/figures/gallery")
WIDTH, COLORS = 1400, 256
"""Width in pixels, and colors, of a picture on the page."""
MOST_RUNS = 12
"""Most runs of a figure with a command on the page; its caption names all runs."""
INTRODUCTION = """# Gallery

Every figure of an analysis, computed from the runs of the studies by one command and written here
by `python -m docs.build.gallery`. The text under each figure describes its runs: they are small, so
that a laptop can repeat them, and demonstrate the analyses rather than the methods.
"""


def main() -> None:
    """Write the page and its pictures from the figures that exist; log those that do not."""
    library = Library()
    plans = {study: plan(study, scale, library) for study, scale in STUDIES.items()}
    planned = {study: plan_figures(plans[study], study, STUDIES[study]) for study in STUDIES}
    names = {figure.analysis for by_name in planned.values() for figure in by_name.values()}
    sections = [
        text
        for name in sorted(names, key=lambda name: figures.get(name).title)
        for text in _section(name, planned, plans)
    ]
    write_text(PAGE, "\n\n".join([INTRODUCTION, *sections]) + "\n")


def _section(
    name: str, planned: dict[str, dict[str, PlannedFigure]], plans: dict[str, Plan]
) -> Iterator[str]:
    """Yield the heading and definition of an analysis, and its figure of each study."""
    kind = figures.get(name)
    yield f"## {kind.title}"
    yield kind.definition()
    for study, by_name in planned.items():
        for figure in by_name.values():
            if figure.analysis != name:
                continue
            if not (figure.folder / "caption.md").exists():
                logger.warning("%s: no such figure; left out of the page", figure.folder)
                continue
            yield from _figure(study, figure, plans[study])


def _figure(study: str, figure: PlannedFigure, study_plan: Plan) -> Iterator[str]:
    """Yield the pictures of a figure, its findings, and the commands that compute it."""
    yield f"### {study_plan.study.title}: {study_plan.scale.title}"
    for stem in figure.settings.pictures:
        if study in PHOTOGRAPHS and stem in figure.settings.photographs:
            continue
        path = PICTURES / f"{study}-{figure.name}-{stem}.png"
        _write_small(figure.folder / f"{stem}.png", path)
        yield f"![{figure.settings.title}](../{path.relative_to('docs')})"
    caption = (figure.folder / "caption.md").read_text(encoding="utf-8")
    yield caption.split("\n\n")[1]  # the findings follow the title
    request = f"--config study={study} scale={STUDIES[study]}"
    yield f"```\nsnakemake figure_{figure.name} {request}\n```"
    if len(figure.runs) <= MOST_RUNS:
        yield f"or, of any runs:\n\n```\n{_command(figure)}\n```"


def _command(figure: PlannedFigure) -> str:
    """Return the command that computes a figure without the workflow, with one run in a line."""
    name, *rest = figure.arguments
    lines = re.sub(r" (?=results/runs/|--)", " \\\n    ", shlex.join(rest))
    return f"kd figures {name} \\\n    {lines}"


def _write_small(source: Path, target: Path) -> None:
    """Write a picture with the width of the page and few colors."""
    with Image.open(source) as picture:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    with replacing(target) as temporary:
        small.quantize(COLORS).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    main()
