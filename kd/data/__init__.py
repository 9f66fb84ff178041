"""Data sets: the built-in one, the readers of COCO and VOC layouts, and their check."""
