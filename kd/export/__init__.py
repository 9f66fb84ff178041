"""Exports: a student as files for mmdet, ONNX Runtime and torch, without this project."""
