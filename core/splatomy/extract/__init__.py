"""Products taken from a scene: meshes, vessels, time maps."""
