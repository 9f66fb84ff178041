"""Typed models of the files under ``configs/`` and their composition into runs."""
