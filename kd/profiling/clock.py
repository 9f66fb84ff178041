"""Time by part: spans that lie in one another, each with what no span inside it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kd.common.timing import synchronize


class Clock:
    """Seconds by part since it was last read; waits for the GPU where a span begins or ends."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0
        self.switched: Callable[[str], object] | None = None
        """Is told the part that ends, or is interrupted, where one is."""

    @property
    def part(self) -> str:
        """The innermost open span; empty outside of all."""
        return self._open[-1] if self._open else ""

    @contextmanager
    def span(self, part: str) -> Iterator[None]:
        """Charge a block to ``part``, less the spans inside it."""
        self._charge()
        self._open.append(part)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def charged(self, part: str, unless: Callable[[str], bool]) -> Callable[[Any], Any]:
        """Return what wraps a function, so that a call is charged to ``part``.

        ``unless``: of the open part, whether the call stays in that.
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
        """Return the seconds by part, and begin anew."""
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
