"""Actions of the jobs of the plain workflow, selected by ``do`` in config.json."""

import json
import os
import sys
import time
from pathlib import Path

PATIENCE = 600


def succeed(settings: dict, output: Path, text: str) -> None:
    output.write_text(text + "\n")


def wait(settings: dict, output: Path, text: str) -> None:
    """Wait for a file ``go``, and then do the action ``then``."""
    deadline = time.monotonic() + PATIENCE
    while not Path("go").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the file go did not appear")
        time.sleep(0.1)
    ACTIONS[settings.get("then", "succeed")](settings, output, text)


def fail(settings: dict, output: Path, text: str) -> None:
    raise ValueError("the number 17 is not even")


def allocate(settings: dict, output: Path, text: str) -> None:
    """Allocate more memory than requested, unless the request is ``enough``."""
    if int(os.environ.get("SLURM_MEM_PER_NODE", 0)) < settings["enough"]:
        blocks = [bytes([1]) * (settings["allocate"] << 20)]
        wait({}, output, str(len(blocks)))
    succeed(settings, output, text)


def forget(settings: dict, output: Path, text: str) -> None:
    """Succeed without creating the output."""


ACTIONS = {
    "succeed": succeed, "wait": wait, "fail": fail, "allocate": allocate, "forget": forget,
}  # fmt: skip


def note(name: str, event: str) -> None:
    """Append a line to the job's history."""
    folder = Path("history")
    folder.mkdir(exist_ok=True)
    with open(folder / name, "a") as stream:
        stream.write(f"{event} {os.environ.get('SLURM_JOB_ID')}\n")


if __name__ == "__main__":
    name, text, output = sys.argv[1:]
    settings = json.loads(Path("config.json").read_text())["jobs"][name]
    note(name, "start")
    ACTIONS[settings.get("do", "succeed")](settings, Path(output), text)
    note(name, "end")
