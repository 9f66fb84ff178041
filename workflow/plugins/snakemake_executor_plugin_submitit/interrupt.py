"""What becomes of jobs in the queue when the workflow is interrupted."""

import select
import sys
from collections.abc import Sequence

SECONDS = 30
"""How long a question waits for its answer."""


def shall_cancel(on_interrupt: str, backend: str, ids: Sequence[str]) -> bool:
    """Return whether to cancel jobs. Those of this machine end with their workflow."""
    if backend != "slurm" or on_interrupt == "cancel":
        return True
    if on_interrupt == "leave" or not (sys.stdin and sys.stdin.isatty()):
        return False
    print(
        f"\n{len(ids)} jobs are in the queue. Enter or wait: leave them, the next snakemake takes "
        "them over. c, Enter or Ctrl-C: cancel them. ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    try:
        answered, _, _ = select.select([sys.stdin], [], [], SECONDS)
        answer = sys.stdin.readline() if answered else ""
    except KeyboardInterrupt:
        return True
    return answer.strip().lower().startswith("c")
