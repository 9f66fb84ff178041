"""Cost of a training step by part."""
