"""Fonts in PDF files: without tables that no viewer reads, but that take most of the time."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

from fontTools import subset

LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB")
"""Tables of a font by which text is laid out. In a PDF file, every glyph already has its place."""


@contextmanager
def without_layout_tables() -> Iterator[None]:
    """Let matplotlib embed fonts without ``LAYOUT_TABLES``, for which it has no setting."""
    tables = [*subset.Options().drop_tables, *LAYOUT_TABLES]
    with mock.patch.object(subset, "Options", partial(subset.Options, drop_tables=tables)):
        yield
