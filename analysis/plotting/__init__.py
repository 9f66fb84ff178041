"""Styles, overlays and text that all pictures share."""
