"""Recipes of a training: optimizer, learning rate and stages of a schedule."""
