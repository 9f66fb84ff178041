"""Names of users in figures: dollars, letters of any script, and any length."""

from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.plotting import lettering
from analysis.plotting.lettering import LONGEST, families, legible, shortened
from analysis.plotting.style import STYLE, save

NAMES = ["$x_{1}$", "cost $5", r"\frac{$", "木材 crate", "a" * 60 + "b" * 60, "one\ntwo\tthree"]


@pytest.fixture(autouse=True)
def only_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fonts of this machine do not decide."""
    monkeypatch.setattr(lettering, "FALLBACKS", ())
    forget()


def forget() -> None:
    for cached in (lettering.families, lettering._letters, lettering._mention):
        cached.cache_clear()


def font_of(letters: str, name: str, folder: Path) -> Path:
    """Write a font that has some letters, each a square."""
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


def drawn(*names: str) -> list[Text]:
    """Return the texts of a figure with names as its ticks, legend and title, after it is drawn."""
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
def test_a_name_is_drawn_as_it_is_written(name: str, recwarn: pytest.WarningsRecorder) -> None:
    texts = [text for text in drawn(name) if legible(name) == text.get_text()]
    assert len(texts) >= 3
    assert not any(text.get_parse_math() for text in texts)
    assert [str(each.message) for each in recwarn if "Glyph" in str(each.message)] == []


def test_dollars_stay() -> None:
    assert legible("$x_{1}$") == "$x_{1}$"


def test_a_long_name_keeps_both_ends_and_leaves_room_for_the_figure() -> None:
    one, other = legible("a" * 120), legible("a" * 119 + "b")
    assert len(one) == len(other) == LONGEST and one != other
    assert one == "a" * 21 + "…" + "a" * 10
    assert shortened("abcdef", 6) == "abcdef" and shortened("abcdefg", 6) == "abcd…g"


def test_letters_that_no_font_has_become_numbers_and_are_mentioned_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert legible("木 tree") == "U+6728 tree"
    assert legible("木材") == "U+6728U+6750"
    assert capsys.readouterr().err.count("no font of this machine") == 1


def test_letters_are_taken_from_a_font_that_has_them(
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
    assert [str(each.message) for each in recwarn if "Glyph" in str(each.message)] == []
