"""Data sets: entries, readers of COCO and VOC, checks, fingerprints, and loading."""
