"""Terminal output of the library's loggers."""

import logging
import sys

LOGGERS = ("kd", "analysis")
"""Packages whose messages the command line prints."""


class TerminalHandler(logging.Handler):
    """Handler that prints messages to the current stdout, and warnings and errors to stderr.

    ``logging.StreamHandler`` would keep the stream that it was created with. It would also swallow
    the BrokenPipeError of a closed reader, on which ``kd`` ends.
    """

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(self.format(record), file=stream, flush=True)


HANDLER = TerminalHandler()


def log_to_terminal() -> None:
    """Print messages of level INFO and above; calling it again changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(HANDLER)
        logger.propagate = False  # a handler of the root logger would print the message again
