"""The parts of the load pages."""
