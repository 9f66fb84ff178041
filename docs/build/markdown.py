"""Tables in Markdown for the generated pages."""

from collections.abc import Iterable


def grid(header: list[str], rows: Iterable[list[str]]) -> str:
    """Return rows of text under a header; the cells are not escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
