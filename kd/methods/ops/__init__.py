"""Tensor operations that several methods share: adapters, masks, boxes, pyramids, reductions."""
