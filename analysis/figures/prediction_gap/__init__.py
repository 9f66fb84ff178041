"""Prediction gap: differences of predictions and of features between student and teacher."""
