"""Use of trained detectors: detections in images, pictures of them, latency."""
