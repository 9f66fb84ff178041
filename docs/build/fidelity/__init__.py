"""Page of our configurations beside mmdet's: ``python -m docs.build.fidelity``."""
