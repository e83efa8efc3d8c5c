"""Splatomy: surgical video and DSA runs become measurable 3D and 4D anatomy."""

import os

# Torch and Numba keep a pool of threads each, and idle threads spin by default: on a busy machine they
# starve the working ones (measured: a training step took 13 times as long). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
