"""A control is disabled only together with the reason, which its tooltip shows."""

from __future__ import annotations

from PyQt6.QtWidgets import QWidget

_TIP = "splatomy_tip"


def set_available(widget: QWidget, reason: str | None = None) -> None:
    """Enables a control, or a group of them, or disables it and says why in its tooltips."""
    widget.setEnabled(reason is None)
    _show_reason(widget, reason)
    for part in widget.findChildren(QWidget):
        # A part that is disabled for itself has a reason of its own.
        if part.toolTip() and part.isEnabledTo(widget):
            _show_reason(part, reason)


def _show_reason(widget: QWidget, reason: str | None) -> None:
    tip = widget.property(_TIP)
    if tip is None:
        tip = widget.toolTip()
        widget.setProperty(_TIP, tip)
    if reason is None:
        widget.setToolTip(tip)
    else:
        widget.setToolTip(f"{tip}\nNot available: {reason}" if tip else f"Not available: {reason}")


def set_tip(widget: QWidget, tip: str) -> None:
    """The tooltip of a control while it is available."""
    widget.setProperty(_TIP, tip)
    if widget.isEnabled():
        widget.setToolTip(tip)
