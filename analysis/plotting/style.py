"""Style of all figures, the look of each method, and the files that figures are written to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.plotting.alt_text import PDF_KEY, PNG_KEY
from analysis.plotting.method_styles import COLORS, assign
from kd.common.files import replacing
from kd.common.lettering import families, legible

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

DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("s", "D", "^", "v", "P", "X", "<", ">", "p", "h", "d", "8")
"""Markers of methods, one for each color."""
MARKER_STEP = 5
"""Markers between those of two rows of one color."""


@dataclass(frozen=True)
class Look:
    """Color, dash and marker of a row."""

    color: str
    dash: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of a line without markers."""
        return {"color": self.color, "linestyle": self.dash}

    @property
    def point(self) -> dict[str, Any]:
        """Arguments of markers without a line."""
        return {"color": self.color, "marker": self.marker, "linestyle": "none"}


TEACHER = Look("#000000", (0, (1, 1)), "*")
BASELINE = Look("0.5", "-", "o")


def row_looks(rows: Sequence[tuple[str, str]]) -> list[Look]:
    """Return the look of each row of a figure, of its role and the name of its method.

    Rows of methods differ in color and marker; if there are more rows than colors, rows of one
    color differ in marker and dash. So do several students without a method.
    """
    methods = [method for role, method in rows if method and role != "teacher"]
    uses, students = Counter[int](), 0
    result: list[Look] = []
    colors = iter(assign(methods))
    for role, method in rows:
        if role == "teacher":
            result.append(TEACHER)
            continue
        if not method:
            result.append(_student_look(students))
            students += 1
            continue
        color = next(colors)
        result.append(_method_look(color, uses[color]))
        uses[color] += 1
    return result


def look(role: str, method: str) -> Look:
    """Return the look of a row that is alone in a figure, or beside rows without a method."""
    return row_looks([(role, method)])[0]


def _student_look(use: int) -> Look:
    """Return the look of the student that is number ``use``, from 0, of those without a method."""
    markers = (BASELINE.marker, *MARKERS)
    marker = markers[MARKER_STEP * use % len(markers)]
    return Look(BASELINE.color, DASHES[use % len(DASHES)], marker)


def _method_look(color: int, use: int) -> Look:
    """Return the look of the row that is number ``use``, from 0, of those of one color."""
    marker = MARKERS[(color + MARKER_STEP * use) % len(MARKERS)]
    return Look(COLORS[color], DASHES[use % len(DASHES)], marker)


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
