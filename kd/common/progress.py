"""One line now and then that says how far a long loop is."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 5.0


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield ``items``; print the rate and the time left to stderr, rarely, and once at the end."""
    start = printed = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - printed >= SECONDS_BETWEEN_LINES:
            printed = now
            rate = done / (now - start)
            left = (total - done) / rate
            _line(f"{what}: {done} of {total}, {rate:.0f}/s, {left:.0f} s left")
    _line(f"{what}: {done} in {time.monotonic() - start:.1f} s")


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
