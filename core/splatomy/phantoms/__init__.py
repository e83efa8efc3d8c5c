"""Procedural captures with exact truth."""
