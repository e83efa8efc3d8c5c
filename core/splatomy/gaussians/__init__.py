"""Trainable Gaussians: store, start, density control, losses."""
