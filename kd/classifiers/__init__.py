"""Classifier teachers: object crops, their training and evaluation, and the frozen teacher."""
