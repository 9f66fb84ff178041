"""Progress of long loops: a bar on a terminal, a line every few seconds in a log file or pipe."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 5.0


def progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """Yield ``items`` and show on stderr how many are done, their rate and the time left."""
    if sys.stderr.isatty():
        yield from tqdm(items, name, total)
        return
    # tqdm redraws its bar with carriage returns, which make one endless line of a log file.
    start = printed = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - printed >= SECONDS_BETWEEN_LINES:
            printed = now
            _print_line(name, done, total, now - start)
    _print_line(name, done, total, time.monotonic() - start)


def _print_line(name: str, done: int, total: int, seconds: float) -> None:
    print(
        tqdm.format_meter(done, total, seconds, ncols=0, prefix=name), file=sys.stderr, flush=True
    )
