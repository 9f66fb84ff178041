"""Fonts embedded in PDF files: they have the glyphs of the text, and no tables to lay it out."""

import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont

from analysis.plotting.pdf_fonts import LAYOUT_TABLES
from analysis.plotting.style import save

TRUETYPE = b"\x00\x01\x00\x00"
"""First bytes of a TrueType font."""


def embedded_fonts(pdf: Path) -> Iterator[TTFont]:
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            continue
        if content.startswith(TRUETYPE):
            yield TTFont(io.BytesIO(content))


def test_an_embedded_font_has_the_glyphs_of_the_text_alone(tmp_path: Path) -> None:
    figure = Figure()
    figure.text(0.5, 0.5, "VA")
    save(figure, tmp_path / "text", ("pdf",))
    (font,) = embedded_fonts(tmp_path / "text.pdf")
    whole = TTFont(findfont("DejaVu Sans"))
    assert {"V", "A"} <= set(font.getGlyphOrder())
    assert "B" not in font.getGlyphOrder()
    for name in "VA":
        assert font["glyf"][name] == whole["glyf"][name]
        assert font["hmtx"][name] == whole["hmtx"][name]
    assert {*LAYOUT_TABLES} <= {*whole.keys()}
    assert not {*LAYOUT_TABLES} & {*font.keys()}
