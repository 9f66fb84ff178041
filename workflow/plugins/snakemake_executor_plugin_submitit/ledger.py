"""What has been submitted, on disk: a workflow process that dies leaves it to the next one.

One JSON file per submission, written before ``sbatch`` is called. Its name is in the comment of the
Slurm job, so that even a job whose submission was never confirmed is found again in the queue.
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
    """A job of a submission; ``id`` is None until Slurm has confirmed it."""

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
    verdict: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The job as a person calls it: rule and wildcards."""
        return " ".join([self.rule, *(f"{k}={v}" for k, v in sorted(self.wildcards.items()))])


@dataclass
class JobBatch:
    """The jobs of one submission, with logs in ``folder``; array element i is ``jobs[i]``."""

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
        """Replace the file, or remove it where no job is left."""
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
    """Return a submission of ``jobs`` under a name of its own, not yet written."""
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    batch = JobBatch(name, cluster, now.isoformat(timespec="seconds"), list(jobs), root)
    for job in batch.jobs:
        job.batch, job.cluster, job.submitted = batch.name, cluster, batch.submitted
        job.id = job.log = job.verdict = None
    return batch


def batches(root: Path = ROOT) -> list[JobBatch]:
    """Return all submissions on disk, the oldest first; a file that cannot be read is left out."""
    found = []
    for path in sorted(root.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            common = {key: content[key] for key in ("batch", "cluster", "submitted")}
            jobs = [Entry(**job, **common) for job in content["jobs"]]
        except (OSError, ValueError, TypeError, KeyError):
            continue
        folder = content.get("folder", "")
        found.append(
            JobBatch(common["batch"], common["cluster"], common["submitted"], jobs, root, folder)
        )
    return found


def entries(root: Path = ROOT) -> list[Entry]:
    """Return every job on disk: those in the queue or running, and failed ones with a verdict."""
    return [job for batch in batches(root) for job in batch.jobs]


def sha1(parts: Iterable[str]) -> str:
    """Return the digest of some texts: of the files a job makes, or of its command."""
    return hashlib.sha1("\0".join(parts).encode(), usedforsecurity=False).hexdigest()


def _without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}
