"""Paths of the repository, of its configuration, and of the data beside it."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CONFIGS = REPOSITORY / "configs"
SHARED = REPOSITORY.parent / "shared"
BCCD = SHARED / "data" / "bccd"
"""A real data set in VOC format; tests that read it are skipped if it is absent."""
