"""A run and its directory."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path("results")


@dataclass(frozen=True)
class Run:
    """One training: its parts by name, its composed configuration, and the run that teaches it."""

    scale: str
    dataset: str
    schedule: str
    detector: str
    student: str
    seed: int
    method: str | None = None
    teacher: "Run | None" = None
    config: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def model(self) -> str:
        return f"{self.detector}-{self.student}"

    @property
    def name(self) -> str:
        """The run spelled out; it ends in a digest of what the run consists of."""
        training = f"{self.method}_from_{self.teacher.model}" if self.teacher else "alone"
        parts = (self.scale, self.dataset, self.schedule, self.model, training)
        return "/".join((*parts, f"seed{self.seed}-{self.digest}"))

    @property
    def directory(self) -> Path:
        return RESULTS / "runs" / self.name

    @property
    def digest(self) -> str:
        """Eight hex digits of the SHA-256 of the composed configuration."""
        text = json.dumps(self.config, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def title(self) -> str:
        """The run in a few words, for progress lines."""
        return f"{self.model} {self.method or 'alone'} seed{self.seed}"
