"""Objectives, training, evaluation and checkpoints, for any model and guide."""
