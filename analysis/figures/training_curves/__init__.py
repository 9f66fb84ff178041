"""Training curves: losses, AP and learning rate over the steps of training."""
