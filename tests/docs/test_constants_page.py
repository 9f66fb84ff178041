"""Page of constants in pixels and steps."""

import re

from docs.build.constants import PAGE, page
from kd.config.library import Library
from tests.support.paths import CONFIGS

LIBRARY = Library(CONFIGS)
TEXT = page(LIBRARY)


def row(start: str) -> list[str]:
    """Return the cells of the first row whose title begins with ``start``, without the title."""
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_the_page_is_current() -> None:
    assert (CONFIGS.parent / PAGE).read_text() == TEXT, "run `python -m docs.build.constants`"


def test_every_detector_and_scale_is_on_the_page() -> None:
    titles = {LIBRARY.detector(name, "test").title for name in LIBRARY.names("detectors")}
    assert titles <= {*re.findall(r"^### (.*)$", TEXT, re.MULTILINE)}
    header = next(line for line in TEXT.splitlines() if line.startswith("|  |"))
    scales = {*LIBRARY.names("scales")} - {"own"}  # its sizes are those of the user's data
    assert all(any(scale in cell for cell in header.split("|")) for scale in scales)


def test_constants_equal_published_ones_at_the_scale_of_the_papers() -> None:
    assert row("`defeat` on RetinaNet") == [
        *["14, 28"] * 2, "28, 56, 112", *["112, 224, 448, 896"] * 2,
    ]  # fmt: skip
    assert row("`gid` on RetinaNet: `least_side`") == ["1.25", "1.25", "2.5", "10", "10"]
    assert row("warm-up of FGFI") == ["22", "75", "44", "400", "400"]
