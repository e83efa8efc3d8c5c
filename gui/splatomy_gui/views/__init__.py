"""Views: recorded frames, slices and 3D scenes."""
