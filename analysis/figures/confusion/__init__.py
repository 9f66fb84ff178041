"""Confusion matrices: classes of objects against classes of the detections that match them."""
