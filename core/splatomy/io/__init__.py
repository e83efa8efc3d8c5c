"""Readers and writers: the only package that touches files."""
