"""Evaluation: predictions, detections as columns, COCO and VOC metrics."""
