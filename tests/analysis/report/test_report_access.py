"""Access to the page: contrast, narrow windows, keyboard, addresses, and texts to copy."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from tests.analysis.report.conftest import complete, draw, write_page
from tests.support.processes import until

Show = Callable[..., Tab]
STYLE = Path(__file__).parents[3] / "analysis/report/templates/style.css"
TEXT = ("ink", "quiet", "link", "done", "running", "queued", "waiting", "failed")
LINES = ("line", "ours", "theirs", "todo")


@pytest.fixture
def path(project: Path) -> Path:
    """Return the page of a finished study with a figure."""
    complete()
    draw()
    return write_page().path


def luminance(color: str) -> float:
    """Return the relative luminance of a color such as ``#1d1c1a`` (WCAG 2)."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colors, from 1 to 21."""
    low, high = sorted(luminance(color) for color in (first, second))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1, 2], ids=["light", "dark of the system", "dark by choice"])
def test_colors_can_be_told_from_the_paper(theme: int) -> None:
    """Text has a contrast of 4.5, lines and marks of 3; the order is that of the style sheet."""
    blocks = re.findall(r"--paper: .*?--todo: #\w{6};", STYLE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    colors = dict(re.findall(r"--(\w+): (#\w{6});", blocks[theme]))
    for paper in ("paper", "tint"):
        for name in TEXT:
            assert contrast(colors[name], colors[paper]) >= 4.5, (name, paper)
        for name in LINES:
            assert contrast(colors[name], colors[paper]) >= 3, (name, paper)


def test_a_phone_shows_the_gain_without_scrolling(path: Path, show: Show) -> None:
    tab = show(path, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    for name in ("gain", "verdict"):
        box = tab.locator(f"tr.distilled td[data-key={name}]").first.bounding_box()
        assert box and box["x"] + box["width"] <= 390, name
    assert tab.locator("tr.distilled td[data-key=gain]").first.inner_text().split() == [
        *("+2.0", "\u00b1", "1.4", "(\u22128.3", "to", "+12.3)"),
    ]


@pytest.mark.parametrize("width", [390, 1064, 1440])
def test_tables_fit_or_can_be_scrolled_by_keyboard(path: Path, show: Show, width: int) -> None:
    tab = show(path, viewport={"width": width, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    unreachable = tab.locator(".scroll, pre").evaluate_all(
        "all => all.filter(one => one.scrollWidth > one.clientWidth + 1 && one.tabIndex < 0).length"
    )
    assert unreachable == 0
    results = tab.locator(".scroll:has(.results)")
    assert results.evaluate("box => box.scrollWidth > box.clientWidth + 1") == (width == 390)


def test_the_navigation_stays_in_sight_of_wide_windows(path: Path, show: Show) -> None:
    tab = show(path, viewport={"width": 1280, "height": 700})
    links = tab.get_by_role("navigation").get_by_role("link")
    tab.locator("#reproduce").scroll_into_view_if_needed()
    expect(links.first).to_be_in_viewport()
    links.get_by_text("Curves").click()
    expect(tab.locator("#figure-curves h3")).to_be_in_viewport()


def test_costs_are_shown_on_request(path: Path, show: Show) -> None:
    tab = show(path)
    cost = tab.locator("td.cost").first
    expect(cost).to_be_hidden()
    tab.get_by_role("button", name="Cost columns").click()
    expect(cost).to_be_visible()


def test_a_filter_has_an_address(path: Path, show: Show) -> None:
    tab = show(path)
    tab.get_by_label("Filter").fill("pfi")
    tab.get_by_role("button", name="distilled", exact=True).click()
    assert tab.evaluate("location.hash") == "#q=pfi&kind=distilled"
    tab.reload()
    expect(tab.locator("#matches")).to_have_text("1 of 4 rows")
    expect(tab.get_by_role("button", name="distilled", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    tab.get_by_label("Filter").fill("")
    tab.get_by_role("button", name="distilled", exact=True).click()
    assert tab.evaluate("location.hash") == ""
    tab.evaluate("location.hash = 'q=student'")
    expect(tab.locator("#matches")).to_have_text("1 of 4 rows")


def test_a_row_has_an_address(path: Path, show: Show) -> None:
    tab = show(path)
    tab.locator("tr.distilled td[data-key=gain] button").last.click()
    address = tab.evaluate("location.hash")
    assert address.startswith("#row=pair/") and address.endswith("rm%2Bpfi&cell=gain")
    tab.reload()
    dialog = tab.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="RM + PFI")).to_be_visible()
    tab.keyboard.press("Escape")
    # Empty when the closing has ended; the page's policy forbids to wait for it by a script.
    until(lambda: tab.evaluate("location.hash") == "")


def test_commands_and_references_can_be_copied(path: Path, show: Show) -> None:
    tab = show(path, permissions=["clipboard-read", "clipboard-write"])
    tab.get_by_text("BibTeX", exact=True).click()
    for part in ("#bibtex", "#methods-text", "#reproduce pre"):
        button = tab.locator(part).get_by_role("button", name="Copy")
        button.click()
        expect(tab.locator(part).get_by_role("button", name="Copied")).to_be_visible()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("kd report tiny --scale tiny --seeds 2") and "Cop" not in copied


def test_the_first_picture_of_a_figure_is_shown_and_the_rest_folded(path: Path, show: Show) -> None:
    tab = show(path)
    pictures = tab.locator("#figure-curves img")
    assert [pictures.nth(place).is_visible() for place in range(3)] == [True, False, False]
    tab.locator("#figure-curves summary").click()
    expect(pictures.last).to_be_visible()


def test_the_embedded_table_is_downloaded(path: Path, show: Show) -> None:
    tab = show(path)
    with tab.expect_download() as download:
        tab.get_by_role("link", name="CSV, all columns").click()
    assert download.value.suggested_filename == "tiny-tiny.csv"
    assert download.value.path().read_text().startswith("table,group,row,")
