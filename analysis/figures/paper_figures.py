"""Figures of a paper: pictures of a study's figures, in files named as the paper names them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.planning import PlannedFigure, plan_figures
from kd.config.plan import Plan
from kd.config.run import study_folder
from kd.config.study_parts import PaperFigure

PICTURES = ("png", "pdf")
"""Formats of a picture."""


@dataclass(frozen=True)
class PaperPicture:
    """A picture of a study's figure, and the file of the paper's figure that it is copied to."""

    figure: PlannedFigure
    paper: PaperFigure
    source: str
    """Reference of the paper."""
    file: Path
    """Path of the copy, without suffix."""

    @property
    def picture(self) -> str:
        """Name of the picture in the folder of the study's figure."""
        return self.paper.picture or self.figure.settings.pictures[0]

    @property
    def inputs(self) -> list[str]:
        """The picture in each format, then the caption of the study's figure."""
        pictures = [f"{self.picture}.{kind}" for kind in PICTURES]
        return [str(self.figure.folder / name) for name in (*pictures, "caption.md")]

    @property
    def outputs(self) -> list[str]:
        """The paper's figure in each format, then its caption."""
        return [f"{self.file}.{kind}" for kind in (*PICTURES, "md")]

    @property
    def heading(self) -> str:
        """Text above the caption, in Markdown: the paper's figure, its origin and differences."""
        origin = f"Picture `{self.picture}` of `{self.figure.folder}`."
        differs = (
            [f"It differs from the paper's: {self.paper.differs}"] if self.paper.differs else []
        )
        return "\n\n".join([f"# {self.paper.figure}", self.source + ".", origin, *differs])


def paper_pictures(plan: Plan, study: str, scale: str) -> dict[str, PaperPicture]:
    """Return the pictures of a paper's figures by the name of their file, without suffix.

    Figure 3 is ``figure-3``; if several figures of the study make it, ``figure-3-<key>``. Figures
    whose rows are not selected are left out. UserError as in ``plan_figures``.
    """
    folder = study_folder(study, scale) / "paper"
    figures = plan_figures(plan, study, scale).values()
    planned = [(figure, figure.paper) for figure in figures if figure.paper]
    shared = Counter(paper.figure for _, paper in planned)
    pictures: dict[str, PaperPicture] = {}
    for figure, paper in planned:
        suffix = f"-{figure.name}" if shared[paper.figure] > 1 else ""
        name = file_name(paper.figure) + suffix
        pictures[name] = PaperPicture(figure, paper, plan.study.source or "", folder / name)
    return pictures


def file_name(figure: str) -> str:
    """Return the name of the file of a paper's figure: ``figure-s1`` of ``Figure S1``."""
    return figure.lower().replace(" ", "-")
