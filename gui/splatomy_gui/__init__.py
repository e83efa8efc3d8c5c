"""The desktop app; its screens come with their own issue."""
