"""Gradient maps: gradients of distillation and detection losses on the neck."""
