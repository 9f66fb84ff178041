"""TIDE error breakdown."""
