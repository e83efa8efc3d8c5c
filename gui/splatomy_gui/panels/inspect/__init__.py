"""The parts of the inspection pages."""
