"""Names of users in figures: dollars, letters of any script, and any length."""

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.plotting.style import STYLE, save
from kd.common import lettering
from kd.common.lettering import LONGEST, families, legible, shortened

NAMES = ["$x_{1}$", "cost $5", r"\frac{$", "木材 crate", "a" * 60 + "b" * 60, "one\ntwo\tthree"]


@pytest.fixture(autouse=True)
def only_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no fonts of this machine."""
    monkeypatch.setattr(lettering, "FALLBACKS", ())
    forget()


def forget() -> None:
    for cached in (
        lettering.families,
        lettering.font_files,
        lettering._letters,
        lettering._warn_of_missing_letters,
    ):
        cached.cache_clear()


def font_of(letters: str, name: str, folder: Path) -> Path:
    """Write a font whose letters are squares; return its path."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    glyphs = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    font = FontBuilder(1000)
    font.setupGlyphOrder(glyphs)
    font.setupCharacterMap({ord(letter): f"u{ord(letter):04X}" for letter in letters})
    font.setupGlyf(dict.fromkeys(glyphs, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(glyphs, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path = folder / f"{name}.ttf"
    font.save(path)
    return path


def texts_of(*names: str) -> list[Text]:
    """Draw a figure with names as its ticks, legend and title; return its texts."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4, 3), layout="constrained")
        axes = figure.subplots()
        axes.set_yticks(range(len(names)), map(legible, names))
        axes.set_title(legible(names[0]))
        axes.plot([0, 1], label=legible(names[-1]))
        axes.legend()
        figure.canvas.draw()
    return figure.findobj(Text)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_without_a_change(name: str, recwarn: pytest.WarningsRecorder) -> None:
    texts = [text for text in texts_of(name) if legible(name) == text.get_text()]
    assert len(texts) >= 3
    assert not any(text.get_parse_math() for text in texts)
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []


def test_dollars_are_not_changed() -> None:
    assert legible("$x_{1}$") == "$x_{1}$"


def test_a_long_name_is_shortened_in_its_middle() -> None:
    one, other = legible("a" * 120), legible("a" * 119 + "b")
    assert len(one) == len(other) == LONGEST and one != other
    assert one == "a" * 21 + "…" + "a" * 10
    assert shortened("abcdef", 6) == "abcdef" and shortened("abcdefg", 6) == "abcd…g"


def test_letters_without_a_font_become_numbers_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert legible("木 tree") == "U+6728 tree"
    assert legible("木材") == "U+6728U+6750"
    assert caplog.text.count("No installed font has some letters") == 1


def test_letters_are_drawn_with_a_font_that_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    font_manager.fontManager.addfont(font_of("木材", "Tested Letters", tmp_path))
    monkeypatch.setattr(lettering, "FALLBACKS", ("No Such Font", "Tested Letters"))
    forget()
    assert families() == [lettering.BASE, "Tested Letters"]
    assert legible("木材 crate") == "木材 crate"
    with rc_context({"font.family": families()}):
        figure = Figure()
        figure.text(0, 0, legible("木材 crate"))
        save(figure, tmp_path / "figure")
    assert [str(warning.message) for warning in recwarn if "Glyph" in str(warning.message)] == []
