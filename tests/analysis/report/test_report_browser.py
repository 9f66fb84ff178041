"""The page in a real browser, from a file: sorting, filter, dialog, themes, phone, paper."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page as Tab
from playwright.sync_api import expect

from analysis.tables.formatting import GAIN_TITLE
from tests.analysis.report.conftest import (
    HOSTILE,
    STUDY,
    complete,
    draw,
    fail,
    finish,
    runs_of,
    write_page,
)
from tests.support.tiny import edit

Show = Callable[..., Tab]


@pytest.fixture
def path(project: Path) -> Path:
    """Return the page of a study with a figure and a failed run: rm has 31, rm+pfi 29 and 31."""
    complete()
    draw()
    failed = runs_of("/rm_from")[1]
    (failed / "metrics.json").unlink()
    fail(failed, "out of memory")
    return write_page().path


def names(tab: Tab) -> list[str]:
    """Return the rows that are shown, in order."""
    return [
        name.split("failed:")[0].strip()
        for name in tab.locator("tr.row:visible > th").all_inner_texts()
    ]


def heading(tab: Tab, name: str) -> Any:
    return tab.locator("thead").get_by_role("button", name=name, exact=True)


def background(tab: Tab) -> str:
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


def after_reloads(tab: Tab) -> Iterator[str]:
    """Yield the background after each of some reloads.

    Chromium writes the storage of a page asynchronously, on a busy machine perhaps after the next
    reload.
    """
    for _ in range(10):
        tab.reload()
        yield background(tab)


def overflow(tab: Tab) -> int:
    return tab.evaluate("document.documentElement.scrollWidth - innerWidth")


def test_sorts_numbers_with_missing_ones_last(path: Path, show: Show) -> None:
    """Gains: RM 1.0, RM + PFI -1.0, teacher and student none."""
    tab = show(path)
    study = names(tab)
    assert study == ["Teacher", "Student", "RM", "RM + PFI"]
    gain = heading(tab, GAIN_TITLE)
    gain.click()
    assert names(tab) == ["RM", "RM + PFI", "Teacher", "Student"]
    assert tab.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    gain.press("Enter")
    assert names(tab) == ["RM + PFI", "RM", "Teacher", "Student"]
    assert tab.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    gain.press("Space")
    assert names(tab) == study and tab.locator("th[aria-sort]").count() == 0


def test_sorts_by_size_and_not_by_text(path: Path, show: Show) -> None:
    """AP 40, 31, 31, 30 with 9.9 for one of them: as text 9.9 would be the largest."""
    finish(runs_of("r18-w0.1875/alone")[0], 0.099)
    tab = show(write_page().path)
    heading(tab, "AP").click()
    assert names(tab)[-1] == "Teacher"
    heading(tab, "Row").click()
    assert names(tab) == ["RM", "RM + PFI", "Student", "Teacher"]


def test_filters_by_words_and_chips(path: Path, show: Show) -> None:
    tab = show(path)
    tab.get_by_label("Filter").fill("pfi")
    assert names(tab) == ["RM + PFI"]
    expect(tab.get_by_role("status").filter(has_text="rows")).to_have_text("1 of 4 rows")
    tab.get_by_label("Filter").fill("nothing like it")
    expect(tab.get_by_text("No rows match the filter.")).to_be_visible()
    assert names(tab) == []
    tab.get_by_label("Filter").fill("")
    tab.get_by_role("button", name="distilled", exact=True).click()
    assert names(tab) == ["RM", "RM + PFI"]
    tab.get_by_role("button", name="failed", exact=True).press("Enter")
    assert names(tab) == ["RM"]
    tab.get_by_role("button", name="done", exact=True).click()
    assert names(tab) == ["RM", "RM + PFI"]


def test_a_number_opens_its_provenance_by_mouse(path: Path, show: Show) -> None:
    tab = show(path)
    number = tab.locator("tr.distilled td[data-key=gain] button").last
    number.click()
    dialog = tab.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name="RM + PFI")).to_be_visible()
    seeds = [row.split() for row in dialog.locator("tbody tr").all_inner_texts()]
    assert seeds == [
        ["0", "29.0", "30.0", "\u22121.0", "done"],
        ["1", "31.0", "32.0", "\u22121.0", "done"],
    ]
    dialog.get_by_text("Seed 0, done").first.click()
    expect(dialog).to_contain_text(str(runs_of("/rm+pfi_from")[0]))
    text = dialog.inner_text()
    for fact in (
        "c0ffee",
        "2 \u00d7 GPU T",
        "1.000 kWh",
        "da7a",
        "beef",
        "kd train it",
        "epoch 2 of 2",
    ):
        assert fact in text
    dialog.get_by_text("Composed configuration").first.click()
    composed = dialog.locator("pre", has_text='"model"').first
    expect(composed).to_be_visible()
    config = json.loads(composed.inner_text())
    assert config == json.loads((runs_of("/rm+pfi_from")[0] / "config.json").read_text())
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    expect(number).to_be_focused()


def test_a_number_opens_its_provenance_by_keyboard(path: Path, show: Show) -> None:
    tab = show(path)
    first = tab.locator("tr.distilled").first.locator("td button").first
    first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    dialog = tab.get_by_role("dialog")
    expect(dialog.locator("h2")).to_have_text("RM + PFI")
    expect(dialog.locator(".number")).to_contain_text("AP30.0 \u00b1 1.4")
    tab.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(tab.locator("tr.distilled").last.locator("td[data-key=AP] button")).to_be_focused()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('tr.row')") is None  # a row is one stop


def test_a_click_beside_the_dialog_closes_it(path: Path, show: Show) -> None:
    tab = show(path)
    tab.locator("td[data-key=AP] button").first.click()
    tab.mouse.click(3, 3)
    expect(tab.get_by_role("dialog")).to_be_hidden()


def test_markup_in_titles_is_escaped(path: Path, show: Show) -> None:
    edit(STUDY, title=HOSTILE, tables__pair__title=HOSTILE)
    fail(runs_of("/rm_from")[1], HOSTILE)
    tab = show(write_page().path)
    expect(tab.locator("h1")).to_have_text(HOSTILE)
    tab.locator("tr.distilled td[data-key=AP] button").first.click()
    expect(tab.get_by_role("dialog")).to_contain_text(HOSTILE)
    assert tab.locator("img[src=x]").count() == 0


def test_themes(path: Path, show: Show) -> None:
    tab = show(path, color_scheme="light")
    light = background(tab)
    theme = tab.get_by_role("button", name="Theme")
    theme.click()
    expect(theme).to_have_text("Theme: light")
    theme.click()
    expect(theme).to_have_text("Theme: dark")
    dark = background(tab)
    assert dark != light
    assert dark in after_reloads(tab)
    assert background(show(path, color_scheme="dark")) == dark


def test_print_has_every_row_and_no_tools(path: Path, show: Show) -> None:
    tab = show(path)
    tab.get_by_label("Filter").fill("pfi")
    tab.emulate_media(media="print")
    assert len(names(tab)) == 4
    for gone in (".tools", "nav", "thead button", "dialog", ".copy", ".files"):
        expect(tab.locator(gone).first).to_be_hidden()
    expect(tab.locator("thead .printed").first).to_be_visible()
    assert tab.pdf(prefer_css_page_size=True).startswith(b"%PDF")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_narrow_windows_do_not_scroll_sideways(path: Path, show: Show, width: int) -> None:
    tab = show(path, viewport={"width": width, "height": 844}, is_mobile=True, has_touch=True)
    assert overflow(tab) <= 0
    for part in tab.locator("main details").all():
        part.evaluate("part => { part.open = true; }")
    assert overflow(tab) <= 0
    tab.locator("td[data-key=AP] button").first.tap()
    expect(tab.get_by_role("dialog")).to_be_visible()
    assert tab.locator("dialog").evaluate("box => box.scrollWidth - box.clientWidth") <= 0


def test_headings_stay_visible(path: Path, show: Show) -> None:
    tab = show(path, viewport={"width": 1920, "height": 300})
    tab.locator("tr.row").last.scroll_into_view_if_needed()
    tab.mouse.wheel(0, 40)
    expect(tab.locator(".results thead th").first).to_be_in_viewport()


def test_without_scripts_everything_can_be_read(path: Path, show: Show) -> None:
    tab = show(path, java_script_enabled=False)
    assert len(names(tab)) == 4 and "33.3" in tab.locator(".results").inner_text()
    for absent in (".tools", "#theme", ".results button", "dialog"):
        assert tab.locator(absent).filter(visible=True).count() == 0


def test_a_partial_page_restores_its_view_after_a_reload(path: Path, show: Show) -> None:
    tab = show(path, viewport={"width": 800, "height": 500})
    expect(tab.get_by_text("Partial.", exact=True)).to_be_visible()
    heading(tab, GAIN_TITLE).click()
    tab.get_by_role("button", name="distilled", exact=True).click()
    tab.get_by_label("Filter").fill("rm")
    tab.evaluate("scrollTo(0, 700)")
    finish(runs_of("/rm_from")[1], 0.35)
    fail(runs_of("/rm+pfi_from")[1], "no")
    (runs_of("/rm+pfi_from")[1] / "metrics.json").unlink()
    write_page()
    tab.reload()
    assert names(tab) == ["RM", "RM + PFI"]
    assert tab.get_by_label("Filter").input_value() == "rm"
    assert tab.evaluate("scrollY") == 700
    assert re.search("out of memory", tab.content()) is None


def test_figures_are_drawn(path: Path, show: Show) -> None:
    tab = show(path)
    widths = tab.locator("figure img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert widths == [1400] * 3
    expect(tab.locator(".analysis em")).to_have_text("highest")
