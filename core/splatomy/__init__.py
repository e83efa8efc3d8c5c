"""Splatomy: surgical video and DSA runs become measurable 3D and 4D anatomy."""

__version__ = "0.1.0"
