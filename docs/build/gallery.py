"""Page of the figures that exist here: ``python -m docs.build.gallery``."""

import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from analysis import figures
from analysis.figures.planning import PlannedFigure, plan_figures
from analysis.plotting import alt_text
from docs.build.markdown import anchor
from kd.common.files import replacing, write_text
from kd.config.library import Library
from kd.config.plan import Plan, plan
from kd.config.selection import StudyOptions

logger = logging.getLogger(__name__)

STUDIES = {"demo": "smoke", "sensitivity": "smoke", "bccd": "laptop"}
"""Studies and their scales, in the order of the page."""
SEEDS = {"bccd": 1}
"""Number of seeds of the studies that are drawn with fewer than they plan."""
PHOTOGRAPHS = frozenset({"bccd"})
"""Studies with images of others, whose pictures of images are left out."""
PAGE, PICTURES = Path("docs/reference/gallery.md"), Path("docs/figures/gallery")
WIDTH, COLORS = 1400, 256
"""Width in pixels, and colors, of a picture on the page."""
MOST_RUNS = 12
"""Most runs of a figure whose command names its runs on the page; its caption names all runs."""
INTRODUCTION = """# Gallery

This page shows a picture of each analysis. The runs are small, so that a laptop can repeat them:
the pictures demonstrate the analyses and say nothing about the methods.
[The catalog](figures.md) defines every analysis, and [the guide](../how-to/figures.md) explains
how to draw one. `python -m docs.build.gallery` writes this page from finished figures."""


def main() -> None:
    """Write the page and its pictures from the figures that exist; log those that do not."""
    library = Library()
    plans = {
        study: plan(study, scale, library, StudyOptions(seeds=SEEDS.get(study)))
        for study, scale in STUDIES.items()
    }
    planned = {study: plan_figures(plans[study], study, STUDIES[study]) for study in STUDIES}
    names = {figure.analysis for by_name in planned.values() for figure in by_name.values()}
    sections: list[str] = []
    index: list[str] = []
    for name in sorted(names, key=lambda name: figures.get(name).title):
        kind = figures.get(name)
        study_sections = [text for study in STUDIES for text in _study(name, study, planned, plans)]
        if study_sections:
            index.append(f"| [{kind.question}](#{anchor(kind.title)}) | {kind.title} |")
            sections += [
                f"## {kind.title}",
                f"**{kind.question}** [Definition](figures.md#{anchor(name)}).",
                *study_sections,
            ]
    table = "\n".join(["| question | analysis |", "|---|---|", *index])
    write_text(PAGE, "\n\n".join([INTRODUCTION, table, _requests(planned), *sections]) + "\n")


def _requests(planned: dict[str, dict[str, PlannedFigure]]) -> str:
    """Return the commands that make all figures of the page, one for each study on it."""
    commands = [
        f"snakemake figures {_configuration(study)}"
        for study, by_name in planned.items()
        if any(_is_drawn(figure) for figure in by_name.values())
    ]
    return "\n".join(["All figures of a study:", "", "```bash", *commands, "```"])


def _is_drawn(figure: PlannedFigure) -> bool:
    return (figure.folder / "caption.md").exists()


def _configuration(study: str) -> str:
    seeds = f" seeds={SEEDS[study]}" if study in SEEDS else ""
    return f"--config study={study} scale={STUDIES[study]}{seeds}"


def _study(
    name: str, study: str, planned: dict[str, dict[str, PlannedFigure]], plans: dict[str, Plan]
) -> Iterator[str]:
    """Yield the figures of a study by one analysis."""
    for figure in planned[study].values():
        if figure.analysis != name:
            continue
        if not _is_drawn(figure):
            logger.warning("%s: no such figure; left out of the page", figure.folder)
            continue
        yield from _figure(study, figure, plans[study])


def _figure(study: str, figure: PlannedFigure, study_plan: Plan) -> Iterator[str]:
    """Yield the pictures of a figure, its findings, and, folded, the commands that compute it."""
    yield f"### Study {study}, scale {STUDIES[study]}"
    yield f"{study_plan.study.title}; {study_plan.scale.title}."
    for stem in figure.settings.pictures:
        if study in PHOTOGRAPHS and stem in figure.settings.photographs:
            continue
        source, path = figure.folder / f"{stem}.png", PICTURES / f"{study}-{figure.name}-{stem}.png"
        _write_small(source, path)
        text = alt_text.read(source) or figure.settings.title
        yield f"![{_escaped(text)}](../{path.relative_to('docs')})"
    caption = (figure.folder / "caption.md").read_text(encoding="utf-8")
    yield caption.split("\n\n")[1]  # the findings follow the title
    commands = [f"snakemake figure_{figure.name} {_configuration(study)}"]
    if len(figure.runs) <= MOST_RUNS:
        commands += ["# or, of any runs:", _command(figure)]
    block = "\n".join(["```bash", *commands, "```"])
    yield f"<details><summary>Command</summary>\n\n{block}\n\n</details>"


def _escaped(text: str) -> str:
    """Return a text that Markdown accepts as the alternative text of a picture."""
    return re.sub(r"([\[\]\\])", r"\\\1", text)


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
