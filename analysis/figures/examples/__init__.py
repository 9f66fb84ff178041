"""Detections of teacher and student on example images."""
