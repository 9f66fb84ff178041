"""Losses and validation figures over training."""
