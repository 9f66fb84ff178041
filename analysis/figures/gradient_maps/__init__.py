"""Gradients of distillation and detection losses on the neck maps."""
