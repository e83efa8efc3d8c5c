"""Preparations: each turns a Capture into a better Capture."""
