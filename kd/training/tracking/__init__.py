"""Experiment trackers: TensorBoard, MLflow and Weights & Biases show the logs of trainings."""
