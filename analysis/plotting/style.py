"""Style of all figures, the look of each method, and the files that figures are written to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plotting.alt_text import PDF_KEY, PNG_KEY
from analysis.plotting.lettering import families, legible
from analysis.plotting.method_styles import place
from kd.common.files import replacing

QUIET = "0.45"
"""Gray of notes, axes of reference and other secondary elements."""
STYLE: Any = {
    "font.family": families(),
    "text.parse_math": False,  # dollars in the names of users are not formulas
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "pdf.fonttype": 42,
    "image.composite_image": False,  # an image and a map over it have different resolutions
}
WIDTH = 7.0
"""Inches: the text width of a two-column page."""

COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#805900", "#0080FF",
    "#882255", "#117733", "#332288", "#999933", "#AA4499", "#661100",
)  # fmt: skip
"""Colors of Okabe and Ito and of Tol's muted scheme, without their orange and sky blue, whose
contrast to white is under 3:1. Any two differ by a CIE76 distance of 13 or more, to deuteranopes
too."""
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
    """Color, dash, marker and hatch of a row; each of them alone identifies it in a figure."""

    color: str
    dash: Any
    marker: str
    hatch: str

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line without markers."""
        return {"color": self.color, "linestyle": self.dash}

    @property
    def point(self) -> dict[str, Any]:
        """Arguments of markers without a line."""
        return {"color": self.color, "marker": self.marker, "linestyle": "none"}

    @property
    def bar(self) -> dict[str, Any]:
        """Arguments of bars and patches, with white hatching that is visible in gray print."""
        return {"facecolor": self.color, "hatch": self.hatch, "edgecolor": "white"}


TEACHER = Look("#000000", (0, (1, 1)), "*", "")
BASELINE = Look("0.5", "-", "o", "")


def look(role: str, method: str, variant: int = 0) -> Look:
    """Return the look of a row, which depends only on its role and the name of its method.

    ``variant`` is its number among rows of one method with different settings. Two looks of one
    color differ in marker and hatch.
    """
    if role == "teacher":
        return TEACHER
    if not method:
        return BASELINE
    color, mark = place(method, len(COLORS), len(MARKERS))
    plain = not set("_+") & set(method)
    return Look(
        COLORS[(color + variant) % len(COLORS)],
        DASHES[variant % len(DASHES) if plain else 1 + (mark + variant) % (len(DASHES) - 1)],
        MARKERS[(mark + 5 * variant) % len(MARKERS)],
        HATCHES[(mark + 5 * variant) % len(HATCHES)],
    )


LEGEND_LENGTH = 110
"""Characters in a row of a legend across the page."""


def legend(figure: Figure, looks: Mapping[str, Look], *, lines: bool = True) -> None:
    """Draw a legend of runs above a figure's panels, in as many columns as fit the page."""
    handles = [
        Line2D(
            [],
            [],
            label=legible(run, LEGEND_LENGTH),
            markersize=3.5,
            **(look.line if lines else {"linestyle": "none"}),
        )
        for run, look in looks.items()
    ]
    for handle, (run, look) in zip(handles, looks.items(), strict=True):
        label = legible(run, LEGEND_LENGTH)
        handle.set(marker=look.marker, color=look.color, label=label)
    if handles:
        columns = _legend_columns(looks)
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)


def legend_height(looks: Mapping[str, Look]) -> float:
    """Return the height of the legend in inches, for the height of the figure."""
    return 0.17 * -(-len(looks) // _legend_columns(looks))


def _legend_columns(looks: Mapping[str, Look]) -> int:
    longest = max(map(len, looks), default=0)
    return max(min(LEGEND_LENGTH // (longest + 8), len(looks)), 1)


def save(
    figure: Figure,
    stem: Path,
    formats: Sequence[str] = ("pdf", "png"),
    dpi: int = 300,
    alt_text: str | None = None,
) -> list[Path]:
    """Write a figure as ``stem`` with the suffix of each format; return the paths.

    ``alt_text`` is stored in the files, where ``alt_text.read`` finds it.
    """
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in formats]
    for path, suffix in zip(paths, formats, strict=True):
        # Without a date and a version, equal figures are equal files.
        metadata = (
            {"CreationDate": None, PDF_KEY: alt_text}
            if suffix == "pdf"
            else {"Software": None, PNG_KEY: alt_text}
        )
        with rc_context(STYLE), replacing(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=dpi, metadata=metadata)
    return paths
