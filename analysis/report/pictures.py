"""Pictures and captions inside the page: re-encoded at its width, and Markdown without HTML."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

WIDTH, QUALITY = 1400, 85
"""Pixels, and WebP's quality, of a picture; the PDF beside the original is a drawing."""


class Picture(NamedTuple):
    """A picture as the page holds it."""

    address: str
    """A data URI."""
    width: int
    height: int


def picture(path: Path) -> Picture | None:
    """Return a picture at the width of the page; None where there is none to be read."""
    try:
        return _encoded(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@cache
def _encoded(path: Path, _changed: int) -> Picture:
    """Return a file's picture, as of the time it was last changed: watching encodes it once."""
    with Image.open(path) as original:
        width = min(WIDTH, original.width)
        height = round(original.height * width / original.width)
        flat = Image.new("RGB", original.size, "white")
        flat.paste(original, mask=original.getchannel("A") if original.mode == "RGBA" else None)
    small = flat.resize((width, height), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    small.save(written, format="WEBP", quality=QUALITY, method=4)
    text = base64.b64encode(written.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{text}", width, height)


class Caption(NamedTuple):
    """A figure's ``caption.md``: its title, what its runs show, and the rest."""

    title: str
    finding: Markup
    rest: Markup


def caption(path: Path) -> Caption | None:
    """Return a caption as HTML; None where there is no file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    title, _, body = text.partition("\n\n")
    finding, _, rest = body.partition("\n\n")
    return Caption(title.lstrip("# ").strip(), markdown(finding), markdown(rest))


def markdown(text: str) -> Markup:
    """Return Markdown as HTML; tags in it are shown as they are, and no picture is fetched."""
    return Markup(_parser().render(text))


def inline(text: str) -> Markup:
    """Return one line of Markdown as HTML without a paragraph around it."""
    return Markup(_parser().renderInline(text))


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
