"""Live: the video as it arrives, and the surface that grows out of it."""

from splatomy_gui.panels.live.page import LivePage

__all__ = ["LivePage"]
