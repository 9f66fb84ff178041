"""Project of the soak test: jobs of several kinds, some with dependencies, and their histories."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

SOURCES = ("Snakefile", "work.py")
FAILING, EXCEEDING = 0.04, 0.04
"""Fractions of jobs that raise an exception, and of jobs that exceed their memory."""
STEPPING = 0.6
"""Fraction of the other jobs that count steps."""
DEPENDENT = 0.25
"""Fraction of jobs that depend on others."""


@dataclass(frozen=True)
class Note:
    """A line of a job's history: start, stopped, end or overlap."""

    event: str
    time: float
    id: str
    step: int


class Soak:
    """A folder with jobs; the ``doomed`` ones depend on a failing one."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        self.folder = folder
        self.jobs = dict(plan(number, Random(seed)))
        for source in SOURCES:
            shutil.copy(Path(__file__).parent / source, folder)
        for name in ("counters", "history", "locks"):
            (folder / name).mkdir()
        (folder / "config.json").write_text(json.dumps({"jobs": self.jobs}))

    def names(self, *kinds: str) -> list[str]:
        """Return the names of jobs of some kinds that can run."""
        doomed = self.doomed
        return [n for n, job in self.jobs.items() if job["kind"] in kinds and n not in doomed]

    @property
    def doomed(self) -> list[str]:
        """Names of jobs that can never run."""
        failing = {name for name, job in self.jobs.items() if job["kind"] == "fail"}
        return [name for name, job in self.jobs.items() if failing.intersection(job["needs"])]

    @property
    def unfinished(self) -> list[str]:
        """Names of jobs that can create their output but have not."""
        names = self.names("plain", "memory", "steps")
        return [name for name in names if not (self.folder / "out" / f"{name}.txt").exists()]

    def history(self, name: str) -> list[Note]:
        """Return the history of a job."""
        path = self.folder / "history" / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            Note(event, float(time), id, int(step))
            for event, time, id, step in (line.split() for line in lines)
        ]


def plan(number: int, random: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield independent jobs first, then jobs that depend on two of them."""
    first = [f"job{n:03}" for n in range(round(number * (1 - DEPENDENT)))]
    failing, exceeding = max(1, round(FAILING * number)), max(1, round(EXCEEDING * number))
    kinds = ["fail"] * failing + ["memory"] * exceeding
    kinds += random.choices(["steps", "plain"], [STEPPING, 1 - STEPPING], k=len(first) - len(kinds))
    random.shuffle(kinds)
    kind_of = dict(zip(first, kinds, strict=True))
    for name, kind in kind_of.items():
        yield name, {"kind": kind, "seconds": length(kind, random), "needs": []}
    sound = [name for name, kind in kind_of.items() if kind != "fail"]
    (*_, broken) = (name for name, kind in kind_of.items() if kind == "fail")
    for n in range(len(first), number):
        needs = random.sample(sound, 2) if n < number - 1 else [sound[0], broken]
        kind = random.choice(["steps", "plain"])
        yield f"job{n:03}", {"kind": kind, "seconds": length(kind, random), "needs": needs}


def length(kind: str, random: Random) -> float:
    """Return the seconds that a job takes without a fault."""
    return round(random.uniform(10, 40) if kind == "steps" else random.uniform(2, 8), 1)
