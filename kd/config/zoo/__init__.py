"""Detectors of the model zoo of mmdet: index, those that equal ours, starts of students."""
