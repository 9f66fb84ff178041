"""Page of the figures of the papers: ``python -m docs.build.paper_figures``."""

import json
from collections.abc import Iterator
from pathlib import Path

from analysis.figures.paper_figures import PaperPicture, paper_pictures
from analysis.runs.titles import ROLES, method_name
from analysis.tables.markdown import escaped
from docs.build.markdown import anchor, grid
from kd.common.files import write_text
from kd.common.lists import enumerate_names
from kd.config.library import Library
from kd.config.plan import Plan, plan

PAGE = Path("docs/reference/paper-figures.md")
SCALE = "paper"
INTRODUCTION = """# Figures of the papers

The tables below list the figures of each paper that its study draws: the command, the file, the
analysis with its rows and settings, and the differences from the paper's figure. A last table has
the figures that are not drawn, with the reason. `python -m docs.build.paper_figures` writes this
page from the blocks `paper` and the key `not_drawn` of `configs/studies/*.yaml`
([keys](configuration.md#studies-configsstudiesyaml)).

The commands are those of scale `paper`. Other scales have other folders: `scale=smoke` writes to
`results/<study>/smoke/paper`, in minutes and with small networks and generated images. Each file
exists as `.png`, `.pdf`, and `.md` with the caption. All numbers are in the CSV files of the folder
that the caption names. Write the target before `--config`
([draw figures](../how-to/figures.md#the-figures-of-a-paper))."""


def main() -> None:
    """Write the page."""
    write_text(PAGE, page(Library()))


def page(library: Library) -> str:
    """Return the page: a section for each study that names figures of its paper."""
    sections: list[str] = []
    for name in library.names("studies"):
        study = library.study(name, "studies")
        if study.not_drawn or any(figure.paper for figure in study.figures.values()):
            sections += _section(name, plan(name, SCALE, library), library)
    return "\n\n".join([INTRODUCTION, *sections]) + "\n"


def _section(name: str, study_plan: Plan, library: Library) -> Iterator[str]:
    study = study_plan.study
    pictures = paper_pictures(study_plan, name, SCALE)
    yield f"## {study.title} (`{name}`)"
    yield f"{study.source}."
    if pictures:
        configuration = f"--config study={name} scale={SCALE}"
        yield f"```bash\nsnakemake paper_figures {configuration}    # all\n```"
        rows = [
            _row(file, picture, configuration, library)
            for file, picture in sorted(pictures.items(), key=lambda item: _order(item[1]))
        ]
        yield grid(["figure", "file", "command", "shows", "differs from the paper's"], rows)
    if study.not_drawn:
        absent = ([escaped(figure), escaped(reason)] for figure, reason in study.not_drawn.items())
        yield grid(["not drawn", "reason"], absent)


def _order(picture: PaperPicture) -> tuple[bool, str, int, str]:
    """Return the place of a figure in its paper: numbered ones first, then the supplement's."""
    number = picture.paper.figure.removeprefix("Figure ")
    digits = "".join(letter for letter in number if letter.isdigit())
    return (
        not digits,
        number[: number.find(digits[:1])] if digits else "",
        int(digits or 0),
        number,
    )


def _row(file: str, picture: PaperPicture, configuration: str, library: Library) -> list[str]:
    figure = picture.figure
    teachers = {run.teacher.name for run in figure.runs if run.teacher}
    alone = {True: ROLES["teacher"], False: ROLES["baseline"]}
    methods = dict.fromkeys(
        method_name(run.method, library) if run.method else alone[run.name in teachers]
        for run in figure.runs
    )
    analysis = f"[`{figure.analysis}`](figures.md#{anchor(figure.analysis)})"
    names = enumerate_names(list(methods))
    stopped = figure.runs[-1].config["train_cfg"].get("stop_epoch")
    after = f", after {stopped} epochs" if stopped else ""
    return [
        escaped(picture.paper.figure),
        f"`{picture.file}.png`",
        f"`snakemake paper_{file.replace('-', '_')} {configuration}`",
        f"picture `{picture.picture}` of {analysis}: {escaped(names)}{after}{_settings(picture)}",
        escaped(picture.paper.differs),
    ]


def _settings(picture: PaperPicture) -> str:
    """Return the settings that the study gives the analysis, with a separator; empty for none."""
    settings = picture.figure.settings.model_dump(mode="json", exclude_unset=True)
    listing = [f"`{name}: {json.dumps(value)}`" for name, value in settings.items()]
    return f"; settings {enumerate_names(listing)}" if listing else ""


if __name__ == "__main__":
    main()
