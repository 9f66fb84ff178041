"""Matches of detections with objects, and the precision-recall curves drawn from them."""
