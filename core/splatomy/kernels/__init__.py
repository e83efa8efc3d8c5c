"""Geometric kernels: X-ray splatting and voxelisation, one signature, several backends."""
