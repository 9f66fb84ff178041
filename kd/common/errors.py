"""The error that a user's mistake raises, and suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in the user's input; the text names the file, the key and the remedy."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` or the list of valid names."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    valid_names = ", ".join(names) or "none"
    return f"did you mean '{close[0]}'? Valid: {valid_names}" if close else f"valid: {valid_names}"
