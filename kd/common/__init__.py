"""Leaf helpers that every room may use: files, errors, schemas of settings, downloads, progress."""
