"""Knowledge distillation for object detection: methods, training, evaluation."""
