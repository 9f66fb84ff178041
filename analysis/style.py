"""How figures look: one style, one look per method in every figure, files that print well."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kd import methods
from kd.files import replacing
from kd.settings.library import Library

QUIET = "0.45"
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "pdf.fonttype": 42,
    "image.composite_image": False,  # a picture and a map over it keep their own resolutions
}
WIDTH = 7.0
"""Inches: the text width of a two-column page."""

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
    "#882255", "#117733", "#332288", "#999933", "#AA4499", "#661100",
)  # fmt: skip
"""Of Okabe and Ito, and of Tol's muted scheme: told apart by colour-blind eyes."""
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "d", "8")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "---", "++", "ooo", "|||", "***", "//..", "--||")


@dataclass(frozen=True)
class Look:
    """How one row is drawn wherever it appears; each part alone tells it from its neighbours."""

    colour: str
    dash: Any
    marker: str
    hatch: str

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line without markers."""
        return {"color": self.colour, "linestyle": self.dash}

    @property
    def point(self) -> dict[str, Any]:
        """Arguments of markers without a line."""
        return {"color": self.colour, "marker": self.marker, "linestyle": "none"}

    @property
    def bar(self) -> dict[str, Any]:
        """Arguments of bars and patches; the hatching is white, so that it prints in grey."""
        return {"facecolor": self.colour, "hatch": self.hatch, "edgecolor": "white"}


TEACHER = Look("#000000", (0, (1, 1)), "*", "")
BASELINE = Look("0.5", "-", "o", "")


def look(role: str, method: str, variant: int = 0) -> Look:
    """Return the look of a row, which depends on its role and its method's name alone.

    ``variant``: its number among rows of one method with different settings. Two looks of one
    colour differ in marker and hatch.
    """
    if role == "teacher":
        return TEACHER
    if not method:
        return BASELINE
    first, *others = map(_place, method.split("+"))
    shift = first.preset + sum(1 + other.method + other.preset for other in others) + variant
    colour, mark = first.method + shift, first.method + 5 * shift
    return Look(
        COLOURS[colour % len(COLOURS)],
        DASHES[shift % len(DASHES)],
        MARKERS[mark % len(MARKERS)],
        HATCHES[mark % len(HATCHES)],
    )


@cache
def _methods_of_presets(project: Path) -> dict[str, str]:
    """Return the method of each preset of the project in a folder, read once."""
    library = Library(project / "configs")
    presets = {name: library.preset(name) for name in library.names("methods")}
    return {name: preset.method for name, preset in presets.items() if preset}


class _Place(NamedTuple):
    """The place of a term's method among all, and of a preset among those of its method."""

    method: int
    preset: int


def _place(term: str) -> _Place:
    kinds, known = _methods_of_presets(Path.cwd()), methods.names()
    method = kinds.get(term, term)
    variants = [name for name in kinds if kinds[name] == method]
    family = known.index(method) if method in known else len(known)
    return _Place(family, variants.index(term) + 1 if term in variants else 0)


LEGEND_LENGTH = 110
"""Characters in a row of a legend across the page."""


def legend(figure: Figure, looks: Mapping[str, Look], *, lines: bool = True) -> None:
    """Name rows above a figure's panels, in as many columns as fit the page's width."""
    handles = [
        Line2D([], [], label=run, markersize=3.5, **(look.line if lines else {"linestyle": "none"}))
        for run, look in looks.items()
    ]
    for handle, look in zip(handles, looks.values(), strict=True):
        handle.set(marker=look.marker, color=look.colour)
    if handles:
        columns = _legend_columns(looks)
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)


def legend_height(looks: Mapping[str, Look]) -> float:
    """Return the height of the legend in inches, to be added to the figure's."""
    return 0.17 * -(-len(looks) // _legend_columns(looks))


def _legend_columns(looks: Mapping[str, Look]) -> int:
    longest = max(map(len, looks), default=0)
    return max(min(LEGEND_LENGTH // (longest + 8), len(looks)), 1)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write the figure as ``stem`` .pdf and .png (300 dots an inch); return both paths."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".pdf", ".png")]
    for path in paths:
        # Without its date the same figure is the same file.
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        with rc_context(STYLE), replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=300, metadata=metadata)
    return paths
