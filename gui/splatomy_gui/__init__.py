"""The desktop app: load, mask, reconstruct, inspect and export without a terminal."""
