"""Systems as processes that run until the end of the comparison."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

from kd.common.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LOG_LINES = 5
SECONDS_TO_END = 20


class System:
    """Process of ``benchmarks.peers.worker``, which steps on request."""

    def __init__(self, name: str, python: Path, images: Path, folder: Path, batch: int) -> None:
        """Start the process, which writes to ``folder``. It is ready when ``wait`` returns."""
        folder.mkdir(parents=True)
        self.name, self.log = name, folder / "log.txt"
        command = [str(python), "-m", "benchmarks.peers.worker", name, str(images), str(folder)]
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, "--batch", str(batch)],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its input, and end the process if it does not end itself."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def wait(self) -> None:
        """Wait until it is ready for its next step; UserError if it has failed."""
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise UserError("\n  ".join([f"{self.name} failed:", *lines[-LOG_LINES:]]))
        self.facts: dict[str, Any] = json.loads(answer)

    def request(self, part: str) -> float:
        """Request one step, or one part of a step; return its seconds."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{part}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # ``wait`` reads the reason from the log
        self.wait()
        return float(self.facts["seconds"])
