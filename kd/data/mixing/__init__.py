"""Augmentation that mixes several images: Mosaic and MixUp."""
