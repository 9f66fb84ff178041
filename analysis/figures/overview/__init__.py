"""Overview: features, dense predictions and detections of teacher and student on one image."""
