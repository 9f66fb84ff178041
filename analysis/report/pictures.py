"""Pictures, re-encoded at the width of the page, and captions in Markdown without HTML."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from analysis.plotting.alt_text import PNG_KEY

WIDTH, QUALITY = 1400, 85
"""Width in pixels and WebP quality of a picture; the PDF next to the original is a vector file."""


class PagePicture(NamedTuple):
    """A picture that is embedded in the page."""

    address: str
    """A data URI."""
    width: int
    height: int
    alt_text: str
    """Alternative text of the file; empty if it has none."""


def picture(path: Path) -> PagePicture | None:
    """Return a picture at the width of the page; None if the file cannot be read."""
    try:
        return _encoded(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@cache
def _encoded(path: Path, _changed: int) -> PagePicture:
    """Return a file's picture, cached by modification time so that watching encodes it once."""
    with Image.open(path) as original:
        alt_text = str(original.info.get(PNG_KEY, ""))
        width = min(WIDTH, original.width)
        height = round(original.height * width / original.width)
        flat = Image.new("RGB", original.size, "white")
        flat.paste(original, mask=original.getchannel("A") if original.mode == "RGBA" else None)
    small = flat.resize((width, height), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, format="WEBP", quality=QUALITY, method=4)
    text = base64.b64encode(encoded.getvalue()).decode()
    return PagePicture(f"data:image/webp;base64,{text}", width, height, alt_text)


class Caption(NamedTuple):
    """A figure's ``caption.md``: title, finding, and the rest."""

    title: str
    finding: Markup
    rest: Markup


def caption(path: Path) -> Caption | None:
    """Return a caption as HTML; None without a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return None
    title, _, body = text.partition("\n\n")
    finding, _, rest = body.partition("\n\n")
    return Caption(title.lstrip("# ").strip(), markdown(finding), markdown(rest))


def markdown(text: str) -> Markup:
    """Return Markdown as HTML; tags in it are escaped, and no picture is fetched."""
    return Markup(_parser().render(text))


def inline(text: str) -> Markup:
    """Return one line of Markdown as HTML, without a paragraph element."""
    return Markup(_parser().renderInline(text))


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
