"""Entry point of the command line: exit statuses and errors of all commands."""

import io
import os
import select
import signal
import sys
from pathlib import Path

from kd.cli.parser import build_parser
from kd.cli.project import enter_project, find_project
from kd.cli.terminal import log_to_terminal
from kd.common.errors import UserError

CLOSED_PIPE_STATUS = 128 + signal.SIGPIPE
"""Exit status if the reader of the output has closed it, equal to that of a death by SIGPIPE."""
RESUMES = {
    "train": "; the same command resumes at the last checkpoint",
    "infer": "; the same command skips the finished files",
}
"""Remedies of interrupted commands."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status, one of ``kd.cli.command.EXIT_STATUSES``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # the locale may lack a character
    log_to_terminal()
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError as error:
        if _is_stdout_closed():
            return CLOSED_PIPE_STATUS
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(arguments: list[str] | None) -> int:
    """Run one command and return its exit status; let a BrokenPipeError pass."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        options = build_parser().parse_args(words or ["--help"])
        options.arguments, options.folder = words, Path.cwd()
        if options.command.needs_project or find_project():
            enter_project()
        return options.command.run(options) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:  # an absent or unreadable file, a full disk
        from kd.records.provenance import reason

        print(f"error: {reason(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        from kd.training import launch

        if not launch.launched():
            print(f"interrupted{RESUMES.get(''.join(words[:1]), '')}", file=sys.stderr)
        return 130


def _is_stdout_closed() -> bool:
    """Return True if the reader of stdout has closed it, as ``head`` does.

    The rest of the output then goes to the null device, because Python would report a failed flush
    at exit.
    """
    stdout = sys.stdout.fileno()
    polled = select.poll()
    polled.register(stdout, select.POLLOUT)
    if not any(event & select.POLLERR for _, event in polled.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True
