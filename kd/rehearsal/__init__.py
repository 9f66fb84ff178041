"""Rehearsals: a few steps of a training at full size, before it takes hours."""
