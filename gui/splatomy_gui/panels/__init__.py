"""Pages and docks."""
