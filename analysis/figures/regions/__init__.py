"""Regions: the parts of a training image that the methods of trained runs distill."""
