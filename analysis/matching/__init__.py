"""Outcomes of matched detections, and the precision-recall curves drawn from them."""
