"""Reliability diagrams: confidence against precision, and against precision times IoU."""
