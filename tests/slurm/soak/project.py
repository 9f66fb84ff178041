"""The soak's project: jobs of several kinds, some of which need others, and what they noted."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

SOURCES = ("Snakefile", "work.py")
FAILING, IN_NEED = 0.04, 0.04
"""Share of jobs that raise an exception, and of jobs that need more memory than they ask for."""
STEPPING = 0.6
"""Share of jobs that count steps, of the rest."""
LATER = 0.25
"""Share of jobs that need others."""


@dataclass(frozen=True)
class Note:
    """A line of a job's history: start, stopped, end or overlap."""

    what: str
    time: float
    id: str
    step: int


class Soak:
    """A folder with jobs; ``doomed`` are those that need a failing one."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        self.folder = folder
        self.jobs = dict(plan(number, Random(seed)))
        for source in SOURCES:
            shutil.copy(Path(__file__).parent / source, folder)
        for name in ("counters", "history", "locks"):
            (folder / name).mkdir()
        (folder / "config.json").write_text(json.dumps({"jobs": self.jobs}))

    def names(self, *kinds: str) -> list[str]:
        """Return the jobs of some kinds that can run."""
        doomed = self.doomed
        return [n for n, job in self.jobs.items() if job["kind"] in kinds and n not in doomed]

    @property
    def doomed(self) -> list[str]:
        """The jobs that can never run."""
        lost = {name for name, job in self.jobs.items() if job["kind"] == "fail"}
        return [name for name, job in self.jobs.items() if lost.intersection(job["needs"])]

    @property
    def unfinished(self) -> list[str]:
        """The jobs without output that can have one."""
        names = self.names("plain", "memory", "steps")
        return [name for name in names if not (self.folder / "out" / f"{name}.txt").exists()]

    def history(self, name: str) -> list[Note]:
        """Return what a job noted."""
        path = self.folder / "history" / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            Note(what, float(time), id, int(step))
            for what, time, id, step in (line.split() for line in lines)
        ]


def plan(number: int, random: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield jobs: those that need nothing first, then those that need two of the former."""
    first = [f"job{n:03}" for n in range(round(number * (1 - LATER)))]
    failing, in_need = max(1, round(FAILING * number)), max(1, round(IN_NEED * number))
    kinds = ["fail"] * failing + ["memory"] * in_need
    kinds += random.choices(["steps", "plain"], [STEPPING, 1 - STEPPING], k=len(first) - len(kinds))
    random.shuffle(kinds)
    known = dict(zip(first, kinds, strict=True))
    for name, kind in known.items():
        yield name, {"kind": kind, "seconds": length(kind, random), "needs": []}
    sound = [name for name, kind in known.items() if kind != "fail"]
    (*_, broken) = (name for name, kind in known.items() if kind == "fail")
    for n in range(len(first), number):
        needs = random.sample(sound, 2) if n < number - 1 else [sound[0], broken]
        kind = random.choice(["steps", "plain"])
        yield f"job{n:03}", {"kind": kind, "seconds": length(kind, random), "needs": needs}


def length(kind: str, random: Random) -> float:
    """Return how many seconds a job takes when nothing happens to it."""
    return round(random.uniform(10, 40) if kind == "steps" else random.uniform(2, 8), 1)
