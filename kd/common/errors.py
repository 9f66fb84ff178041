"""The error that a user's mistake raises, and suggestions for misspelled names."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake in the user's input; the text names the file, the key and the remedy."""


def suggest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` in any case of letters, and the list of valid names."""
    valid = sorted(valid)
    names = {valid_name.lower(): valid_name for valid_name in valid}
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    valid_names = ", ".join(valid) or "none"
    if close:
        return f"did you mean '{names[close[0]]}'? Valid: {valid_names}"
    return f"valid: {valid_names}"
