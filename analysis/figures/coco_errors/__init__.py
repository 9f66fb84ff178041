"""COCO error breakdown of precision-recall curves."""
