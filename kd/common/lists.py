"""Lists of names in a text, and of the divisors of a number."""

from collections.abc import Iterable


def split_list(texts: str | Iterable[str]) -> list[str]:
    """Return the names in one or more texts, separated by commas or spaces."""
    return [
        name
        for text in ([texts] if isinstance(texts, str) else texts)
        for name in text.replace(",", " ").split()
    ]


def enumerate_names(names: Iterable[object]) -> str:
    """Return names as in a sentence, such as "A, B and C"; at least one name."""
    *others, last = map(str, names)
    return f"{', '.join(others)} and {last}" if others else last


def divisors(number: int) -> list[int]:
    """Return the divisors of a positive number, in ascending order."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
