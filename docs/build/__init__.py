"""Generators of pages and tables under ``docs/``, run from the root of the project."""
