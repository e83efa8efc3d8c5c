"""Rigid motions, pinhole and cone-beam cameras, and anatomical frames."""
