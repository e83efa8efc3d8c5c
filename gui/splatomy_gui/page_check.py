"""What is wrong with a page as it stands: texts that do not fit, controls disabled without a reason."""

from __future__ import annotations

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QMainWindow,
    QPushButton,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QToolButton,
    QWidget,
)

_CONTROLS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit)
_TEXTS = (QPushButton, QToolButton, QCheckBox, QLabel)
_SLACK_PX, _BORDER_PX = 1, 6
_BESIDE = Qt.ToolButtonStyle.ToolButtonTextBesideIcon


def page_problems(window: QMainWindow) -> list[str]:
    """Problems of everything that is on show, in words."""
    found = []
    shown = [widget for widget in window.findChildren(QWidget) if widget.isVisible() and _is_ours(widget)]
    for widget in shown:
        if (
            isinstance(widget, _CONTROLS)
            and not widget.isEnabled()
            and "Not available" not in widget.toolTip()
        ):
            found.append(f"{_name(widget)} is disabled without a reason")
        if isinstance(widget, _CONTROLS) and not widget.toolTip():
            found.append(f"{_name(widget)} has no tooltip")
        if isinstance(widget, _TEXTS) and widget.text() and _is_cut(widget):
            found.append(f"the text of {_name(widget)} is cut off")
        if isinstance(widget, QTabBar) and any(each.isVisible() for each in widget.findChildren(QToolButton)):
            found.append("the tabs do not fit side by side")
        if isinstance(widget, QScrollArea):
            bar = widget.horizontalScrollBar()
            if bar is not None and bar.isVisible():
                found.append(f"{_name(widget)} has to be scrolled sideways")
    return found


def _is_ours(widget: QWidget) -> bool:
    """False for the parts that Qt itself makes of a larger control."""
    parent = widget.parentWidget()
    inside = isinstance(parent, QAbstractSpinBox | QComboBox | QTabBar) or isinstance(widget, QScrollBar)
    return not inside and not widget.objectName().startswith("qt_")


def _is_cut(widget: QPushButton | QToolButton | QCheckBox | QLabel) -> bool:
    if isinstance(widget, QLabel) and widget.wordWrap():
        return widget.height() + _SLACK_PX < widget.heightForWidth(widget.width())
    if isinstance(widget, QLabel):
        return widget.width() + _SLACK_PX < widget.minimumSizeHint().width()
    style = widget.toolButtonStyle() if isinstance(widget, QToolButton) else _BESIDE
    if style is Qt.ToolButtonStyle.ToolButtonIconOnly:
        return False
    needed = widget.fontMetrics().horizontalAdvance(widget.text().replace("&", "")) + _BORDER_PX
    if style is _BESIDE and not widget.icon().isNull():
        needed += widget.iconSize().width()
    return widget.width() < needed


def _name(widget: QWidget) -> str:
    text = widget.text() if isinstance(widget, _TEXTS) else ""
    return f"{type(widget).__name__} {text or widget.objectName() or widget.toolTip()[:40]!r}".replace(
        "\n", " "
    )
