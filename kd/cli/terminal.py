"""Terminal output: messages of the library's loggers, and the width of lines."""

import logging
import re
import sys
import textwrap

LOGGERS = ("kd", "analysis")
"""Packages whose messages the command line prints."""
WIDTH = 100
"""Most characters of a sentence's line. Rows of tables may be longer."""
COLUMNS = re.compile(r"\S {2,}\S")
"""Gap between two columns of a table."""
COMMAND = "; run"
"""End of a line below which a command is printed."""


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


def wrap_sentences(text: str) -> str:
    """Return a text whose sentences have at most ``WIDTH`` characters in a line.

    Rows of tables, commands below a line that ends in ``; run``, and words such as addresses are
    not broken. Continued lines are indented.
    """
    lines = text.split("\n")
    pairs = zip(["", *lines], lines, strict=False)
    wrapped = (line if before.endswith(COMMAND) else _wrap(line) for before, line in pairs)
    return "\n".join(wrapped)


def _wrap(line: str) -> str:
    if len(line) <= WIDTH or COLUMNS.search(line) or " " not in line.strip():
        return line
    indent = line[: len(line) - len(line.lstrip())]
    lines = textwrap.wrap(
        line,
        WIDTH,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)
