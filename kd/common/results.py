"""The folder of all results, relative to the root of a project."""

from pathlib import Path

RESULTS = Path("results")
