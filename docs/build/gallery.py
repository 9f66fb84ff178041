"""Puts figures that were made here into ``docs/gallery.md``: ``python -m docs.build.gallery``."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from analysis import figures
from analysis.figures.planning import Planned
from analysis.figures.planning import figures as planned_figures
from kd.common.files import replacing, write_text
from kd.config.library import Library
from kd.config.plan import Plan, plan

SHOWN = {"demo": "smoke", "sensitivity": "smoke", "ours": "mini", "bccd": "laptop"}
"""Studies and their scales, in the order of the page."""
PHOTOGRAPHS = frozenset({"bccd"})
"""Studies of images that are not this project's: figures that show images are left out."""
PAGE, PICTURES = Path("docs/gallery.md"), Path("docs/figures/gallery")
WIDTH, COLOURS = 1400, 256
"""Pixels, and colours, of a picture on the page; the PDF beside the original is a drawing."""
LISTED = 12
"""Runs that a command lists at most; the caption beside the figure names all."""
INTRODUCTION = """# Gallery

Every figure of an analysis, made from the runs of the studies by one command and put here by
`python -m docs.build.gallery`. What the runs are is said under each: they are small, so that they
can be repeated on a laptop, and show what the analyses do rather than what the methods do.
"""


def main() -> None:
    """Write the page and its pictures from the figures that exist; name those that do not."""
    library = Library()
    plans = {study: plan(study, scale, library) for study, scale in SHOWN.items()}
    planned = {study: planned_figures(plans[study], study, SHOWN[study]) for study in SHOWN}
    names = dict.fromkeys(each.analysis for own in planned.values() for each in own.values())
    sections = [
        text
        for name in sorted(names, key=lambda name: figures.get(name).title)
        for text in _section(name, planned, plans)
    ]
    write_text(PAGE, "\n\n".join([INTRODUCTION, *sections]) + "\n")


def _section(
    name: str, planned: dict[str, dict[str, Planned]], plans: dict[str, Plan]
) -> Iterator[str]:
    """Yield an analysis' heading and definition, and its figure of each study."""
    kind = figures.get(name)
    yield f"## {kind.title}"
    yield kind.definition()
    for study, own in planned.items():
        for figure in own.values():
            if figure.analysis != name:
                continue
            if not (figure.folder / "caption.md").exists():
                print(f"{figure.folder}: not made here; left out", file=sys.stderr)
                continue
            yield from _figure(study, figure, plans[study])


def _figure(study: str, figure: Planned, planned: Plan) -> Iterator[str]:
    """Yield a figure's pictures, its finding, and the commands that make it."""
    yield f"### {planned.study.title}: {planned.scale.title}"
    for stem in figure.settings.pictures:
        if study in PHOTOGRAPHS and stem in figure.settings.photographs:
            continue
        path = PICTURES / f"{study}-{figure.name}-{stem}.png"
        _shrink(figure.folder / f"{stem}.png", path)
        yield f"![{figure.settings.title}]({path.relative_to(PAGE.parent)})"
    yield _finding((figure.folder / "caption.md").read_text(encoding="utf-8"))
    request = f"--config study={study} scale={SHOWN[study]}"
    yield f"```\nsnakemake figure_{figure.name} {request}\n```"
    if len(figure.runs) <= LISTED:
        yield f"or, of any runs:\n\n```\n{_alone(figure)}\n```"


def _finding(caption: str) -> str:
    """Return the part of a caption that speaks of its runs: the one after the title."""
    return caption.split("\n\n")[1]


def _alone(figure: Planned) -> str:
    """Return the command without the workflow, a run in each line."""
    name, *rest = figure.arguments
    lines = re.sub(r" (?=results/runs/|--)", " \\\n    ", shlex.join(rest))
    return f"kd analyze {name} \\\n    {lines}"


def _shrink(source: Path, target: Path) -> None:
    """Copy a picture at the width of the page."""
    with Image.open(source) as picture:
        size = (WIDTH, round(picture.height * WIDTH / picture.width))
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    with replacing(target) as temporary:
        small.quantize(COLOURS).save(temporary, format="PNG", optimize=True)


if __name__ == "__main__":
    main()
