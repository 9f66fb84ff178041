"""Ledger of submitted jobs on disk, from which the next workflow process adopts them.

The ledger is one JSON file per submission, written before ``sbatch`` is called. The comment of the
Slurm job has the file's name, so even a job whose submission was never confirmed can be found in
the queue.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(".snakemake/submitit")
COMMENT = "snakemake:"


@dataclass
class Entry:
    """A submitted job; ``id`` is None until Slurm has confirmed the submission."""

    key: str
    digest: str
    rule: str
    wildcards: dict[str, str]
    outputs: list[str]
    logs: list[str]
    batch: str = ""
    cluster: str = ""
    submitted: str = ""
    id: str | None = None
    log: str | None = None
    attempt: int = 1
    restarts: int = 0
    mem_mb: int = 0
    failed_nodes: list[str] = field(default_factory=list)
    verdict: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """Rule and wildcards, as messages print them."""
        return " ".join([self.rule, *(f"{k}={v}" for k, v in sorted(self.wildcards.items()))])


@dataclass
class JobBatch:
    """Jobs of one submission, with their logs in ``folder``; array element i is ``jobs[i]``."""

    name: str
    cluster: str
    submitted: str
    jobs: list[Entry] = field(default_factory=list)
    root: Path = ROOT
    folder: str = ""

    @property
    def path(self) -> Path:
        return self.root / f"{self.name}.json"

    @property
    def comment(self) -> str:
        return COMMENT + self.name

    def write(self) -> None:
        """Replace the file atomically, or remove it if no job is left."""
        if not self.jobs:
            self.path.unlink(missing_ok=True)
            return
        self.root.mkdir(parents=True, exist_ok=True)
        jobs = [_without(asdict(job), "batch", "cluster", "submitted") for job in self.jobs]
        content = {
            "batch": self.name,
            "cluster": self.cluster,
            "submitted": self.submitted,
            "folder": self.folder,
        }
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({**content, "jobs": jobs}, indent=1), encoding="utf-8")
        os.replace(temporary, self.path)


def new_batch(cluster: str, jobs: Sequence[Entry], root: Path = ROOT) -> JobBatch:
    """Return a submission of ``jobs`` under a new name, not yet written to disk."""
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    batch = JobBatch(name, cluster, now.isoformat(timespec="seconds"), list(jobs), root)
    for job in batch.jobs:
        job.batch, job.cluster, job.submitted = batch.name, cluster, batch.submitted
        job.id = job.log = job.verdict = None
    return batch


def batches(root: Path = ROOT) -> list[JobBatch]:
    """Return all submissions on disk, the oldest first; skip files that cannot be read."""
    submissions = []
    for path in sorted(root.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            common = {key: content[key] for key in ("batch", "cluster", "submitted")}
            jobs = [Entry(**job, **common) for job in content["jobs"]]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        folder = content.get("folder", "")
        submissions.append(
            JobBatch(common["batch"], common["cluster"], common["submitted"], jobs, root, folder)
        )
    return submissions


def entries(root: Path = ROOT) -> list[Entry]:
    """Return all jobs on disk: queued and running ones, and failed ones with a verdict."""
    return [job for batch in batches(root) for job in batch.jobs]


def sha1(parts: Iterable[str]) -> str:
    """Return the digest of texts, such as a job's output files or its command."""
    return hashlib.sha1("\0".join(parts).encode(), usedforsecurity=False).hexdigest()


def _without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}
