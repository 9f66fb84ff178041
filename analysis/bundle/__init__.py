"""Bundles: a study in one file that others can verify."""
