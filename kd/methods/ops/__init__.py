"""Tensor operations that several methods share: adapters, masks, divergences, means, boxes."""
