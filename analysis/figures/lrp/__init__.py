"""Optimal LRP and its components, with intervals over seeds or images."""
