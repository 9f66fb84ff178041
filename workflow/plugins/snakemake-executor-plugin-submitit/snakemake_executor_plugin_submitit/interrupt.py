"""Decision whether an interrupted workflow leaves or cancels its queued jobs."""

import select
import sys
from collections.abc import Sequence

SECONDS = 30
"""Seconds to wait for the user's answer."""


def shall_cancel(on_interrupt: str, backend: str, ids: Sequence[str]) -> bool:
    """Return True to cancel the jobs, False to leave them to the next workflow process.

    Jobs that are processes of this machine are always cancelled.
    """
    if backend != "slurm" or on_interrupt == "cancel":
        return True
    if on_interrupt == "leave" or not (sys.stdin and sys.stdin.isatty()):
        return False
    print(
        f"\n{len(ids)} jobs are in the queue. Press Enter or wait to leave them to the next "
        "snakemake. Press c and Enter, or Ctrl-C, to cancel them. ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    try:
        readable, _, _ = select.select([sys.stdin], [], [], SECONDS)
        answer = sys.stdin.readline() if readable else ""
    except KeyboardInterrupt:
        return True
    return answer.strip().lower().startswith("c")
