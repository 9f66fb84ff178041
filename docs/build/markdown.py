"""Tables in Markdown for the generated pages."""

import re
from collections.abc import Iterable


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub derives it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def grid(header: list[str], rows: Iterable[list[str]]) -> str:
    """Return rows of text under a header; the cells are not escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
