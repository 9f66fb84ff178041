"""COCO's error breakdown: precision-recall curves under progressively tolerant rules."""
