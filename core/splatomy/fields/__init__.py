"""Fields in space and time that give Gaussians their attenuation."""
