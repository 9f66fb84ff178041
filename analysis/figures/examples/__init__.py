"""Examples: detections of baseline and distilled students in the same images."""
