"""Actions of the jobs of the soak test, by their kind in config.json, with a history of events."""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

STEP_SECONDS = 0.2
SAVED_EVERY = 10
STOPPED = 75


def plain(name: str, seconds: float) -> None:
    time.sleep(seconds)


def fail(name: str, seconds: float) -> None:
    time.sleep(seconds)
    raise ValueError("the number 17 is not even")


def memory(name: str, seconds: float) -> None:
    """Allocate more memory than requested, unless the request was doubled."""
    if int(os.environ["SLURM_MEM_PER_NODE"]) < 800:
        block = bytes([1]) * (500 << 20)
        time.sleep(60)
        raise RuntimeError(f"Slurm did not kill a job with {len(block)} bytes")
    time.sleep(seconds)


def steps(name: str, seconds: float) -> None:
    """Count steps from the last saved one; save and exit if the stop file exists."""
    step = counter(name)
    while step < round(seconds / STEP_SECONDS):
        time.sleep(STEP_SECONDS)
        step += 1
        stopping = Path(os.environ["SNAKEMAKE_STOP_FILE"]).exists()
        if stopping or step % SAVED_EVERY == 0:
            replace(Path("counters", name), str(step))
        if stopping:
            note(name, "stopped")
            sys.exit(STOPPED)


KINDS = {"plain": plain, "fail": fail, "memory": memory, "steps": steps}


def counter(name: str) -> int:
    """Return the last saved step."""
    path = Path("counters", name)
    return int(path.read_text()) if path.exists() else 0


def replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def note(name: str, event: str) -> None:
    """Append event, time, Slurm's id and last saved step to the job's history."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    with open(Path("history", name), "a") as stream:
        stream.write(f"{event} {time.time():.2f} {job} {counter(name)}\n")


def main(name: str, output: str) -> None:
    job = json.loads(Path("config.json").read_text())["jobs"][name]
    # The kernel releases the lock at the end of this process, however it ends.
    with open(Path("locks", name), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(name, "overlap")
        note(name, "start")
        KINDS[job["kind"]](name, job["seconds"])
        replace(Path(output), f"{name}\n")
        note(name, "end")


if __name__ == "__main__":
    main(*sys.argv[1:])
