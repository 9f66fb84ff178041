"""Knowledge distillation for object detection: methods, training, evaluation."""

__version__ = "0.1.0"
