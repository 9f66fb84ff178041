"""Parts of a model card that its author fills in, and that a later card of the run keeps."""

import re
from pathlib import Path

from kd.common.errors import UserError

MARKS = re.compile(r"<!-- fill (?P<name>[\w-]+): begin -->\n(?P<text>.*?)<!-- fill end -->", re.S)
LICENSE = re.compile(r"(?m)\A---\n(?:.*\n)*?license: (?P<name>\S+)$")
USAGE = "# Detector of "
"""Beginning of the README of an export without a card."""

ASKS = "> **To fill in.**"
LICENSED = "License of the weights:"
"""Begin of a part that this project wrote, which a new card replaces."""


def to_fill(name: str, text: str) -> str:
    """Return a part between marks, with a text that asks the author to replace it."""
    return between_marks(name, f"{ASKS} {text}")


def between_marks(name: str, text: str) -> str:
    """Return a text between marks, which its author may replace."""
    return f"<!-- fill {name}: begin -->\n{text}\n<!-- fill end -->"


def keep_filled(card: str, earlier: str) -> str:
    """Return a new card with the parts between marks that the author of an earlier one wrote."""
    parts = {
        match["name"]: match["text"]
        for match in MARKS.finditer(earlier)
        if not match["text"].startswith((ASKS, LICENSED))
    }
    return MARKS.sub(
        lambda match: (
            f"<!-- fill {match['name']}: begin -->\n"
            f"{parts.get(match['name'], match['text'])}<!-- fill end -->"
        ),
        card,
    )


def license_of(card: str) -> str | None:
    """Return the license in the metadata of a card, None without one."""
    match = LICENSE.search(card)
    return match["name"] if match else None


def earlier_card(file: Path) -> str:
    """Return the text of a card that a new one may replace, empty without a file.

    UserError for a file that another program or an author wrote.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if text.strip() and not MARKS.search(text) and not text.startswith(USAGE):
        raise UserError(
            f"{file}: exists, and is no model card; move it away, or choose another --to"
        )
    return text
