"""Styles, panels, overlays and lettering that all figures share."""
