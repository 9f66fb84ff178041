"""Readers of labeled folders, one module per format."""
