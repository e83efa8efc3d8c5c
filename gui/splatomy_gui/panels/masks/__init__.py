"""Check and mask: every frame with its mask, tools to draw it, automatic steps, and its confirmation."""

from splatomy_gui.panels.masks.page import MaskPage

__all__ = ["MaskPage"]
