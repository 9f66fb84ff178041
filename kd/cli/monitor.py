"""Commands that watch runs: ``status`` and ``logs``."""

import sys
from argparse import Namespace
from contextlib import suppress

from kd.cli.plan import study_options


def print_status(options: Namespace) -> None:
    """Print the state of every run, once or every few seconds."""
    from kd.monitoring.runs import StatusOptions
    from kd.monitoring.table import status_reports

    selection = StatusOptions(options.study, options.scale, study_options(options), options.all)
    try:
        for report in status_reports(selection, options.json, options.watch):
            print(report, flush=True)
    except KeyboardInterrupt:
        if not options.watch:
            raise


def print_log(options: Namespace) -> None:
    """Print the log of a run, and follow it while the run continues."""
    from kd.monitoring.logs import RunLog

    with suppress(KeyboardInterrupt):
        log = RunLog(options.run)
        # The log alone goes to stdout, for pipes.
        print(log.paths(), log.state(), sep="\n", file=sys.stderr, flush=True)
        follow = log.is_live and not options.no_follow
        for text in log.text(options.lines, follow):
            print(text, end="", flush=True)
        if follow:
            print(log.state(), file=sys.stderr)
        elif not log.path.exists():
            print(f"{log.path}: not written yet", file=sys.stderr)
