"""Time by part: nested spans, each without the time of the spans inside it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kd.common.timing import synchronize


class Clock:
    """Seconds by part since the last read; waits for the GPU at the start and end of a span."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self.switched: Callable[[str], object] | None = None
        """Function that is called with the part that ends or is interrupted."""

    @property
    def part(self) -> str:
        """Innermost open span; empty outside of all spans."""
        return self._open[-1] if self._open else ""

    @contextmanager
    def span(self, part: str) -> Iterator[None]:
        """Charge a block to ``part``, without the spans inside it."""
        self._charge()
        self._open.append(part)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def charged(self, part: str, unless: Callable[[str], bool]) -> Callable[[Any], Any]:
        """Return a decorator that charges the calls of a function to ``part``.

        A call stays in the open part if ``unless`` returns True for that part.
        """

        def wrap(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                if unless(self.part):
                    return function(*args, **kwargs)
                with self.span(part):
                    return function(*args, **kwargs)

            return call

        return wrap

    def read(self) -> dict[str, float]:
        """Return the seconds by part, and reset them."""
        seconds, self._seconds = self._seconds, {}
        return seconds

    def _charge(self) -> None:
        synchronize()
        now = time.perf_counter()
        if self._open:
            if self.switched:
                self.switched(self.part)
            self._seconds[self.part] = self._seconds.get(self.part, 0.0) + now - self._since
        self._since = now
