"""Generators of ``configs/zoo.yaml`` and of the page on published detectors."""
