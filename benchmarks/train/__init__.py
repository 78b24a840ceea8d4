"""Accuracy and speed of training."""
