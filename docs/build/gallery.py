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
    """Write the page and its pictures from the figures that exist; log those that do not.

    The page keeps its section of an analysis and study whose figures do not exist.
    """
    library = Library()
    old_sections = _sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    plans = {
        study: plan(study, scale, library, StudyOptions(seeds=SEEDS.get(study)))
        for study, scale in STUDIES.items()
    }
    planned = {study: plan_figures(plans[study], study, STUDIES[study]) for study in STUDIES}
    names = {figure.analysis for by_name in planned.values() for figure in by_name.values()}
    sections: list[str] = []
    index: list[str] = []
    page_studies: set[str] = set()
    for name in sorted(names, key=lambda name: figures.get(name).title):
        kind = figures.get(name)
        study_sections: list[str] = []
        for study in STUDIES:
            new_texts = [*_study(name, study, planned, plans)]
            if texts := new_texts or old_sections.get((kind.title, _heading(study)), []):
                study_sections += texts
                page_studies.add(study)
        if study_sections:
            index.append(f"| [{kind.question}](#{anchor(kind.title)}) | {kind.title} |")
            sections += [
                f"## {kind.title}",
                f"**{kind.question}** [Definition](figures.md#{anchor(name)}).",
                *study_sections,
            ]
    table = "\n".join(["| question | analysis |", "|---|---|", *index])
    write_text(PAGE, "\n\n".join([INTRODUCTION, table, _requests(page_studies), *sections]) + "\n")


def _sections(page: str) -> dict[tuple[str, str], list[str]]:
    """Return the text of each study's section of a page, by the headings of analysis and study."""
    sections: dict[tuple[str, str], list[str]] = {}
    for analysis in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title, *studies = re.split(r"^### ", analysis, flags=re.MULTILINE)
        for study in studies:
            text = f"### {study.strip()}"
            sections[title.partition("\n")[0], text.partition("\n")[0]] = [text]
    return sections


def _heading(study: str) -> str:
    return f"### Study {study}, scale {STUDIES[study]}"


def _requests(page_studies: set[str]) -> str:
    """Return the commands that make all figures of the page, one for each study on it."""
    commands = [
        f"snakemake figures {_configuration(study)}" for study in STUDIES if study in page_studies
    ]
    return "\n".join(["All figures of a study:", "", "```bash", *commands, "```"])


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
        if not (figure.folder / "caption.md").exists():
            logger.warning("%s: no such figure; the page does not change there", figure.folder)
            continue
        yield from _figure(study, figure, plans[study])


def _figure(study: str, figure: PlannedFigure, study_plan: Plan) -> Iterator[str]:
    """Yield the pictures of a figure, its findings, and, folded, the commands that compute it."""
    yield _heading(study)
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
