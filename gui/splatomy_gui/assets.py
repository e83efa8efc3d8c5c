"""Icons and themes: from the installed package, or from the checkout beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PyQt6.QtCore import QByteArray, QRectF, Qt
from PyQt6.QtGui import QColor, QIcon, QPainter, QPalette, QPixmap
from PyQt6.QtSvg import QSvgRenderer
from PyQt6.QtWidgets import QApplication

_PACKAGE = Path(__file__).parent
_ROOTS = (_PACKAGE / "resources", _PACKAGE.parents[1] / "resources")
_SIZES_PX = (16, 24, 48, 96)


def asset(*parts: str) -> Path:
    """The path of a resource file.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for root in _ROOTS:
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"the resource {'/'.join(parts)} is not installed")


def icon(name: str, accented: bool = True) -> QIcon:
    """The icon in the text colour of the theme in force; accented: on the accent where it is checked."""
    palette = QApplication.palette()
    chosen = palette.color(QPalette.ColorRole.HighlightedText)
    normal = palette.color(QPalette.ColorRole.WindowText)
    muted = palette.color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.WindowText)
    return _tinted(name, normal.name(), muted.name(), (chosen if accented else normal).name())


@cache
def _tinted(name: str, normal: str, muted: str, chosen: str) -> QIcon:
    made = QIcon()
    looks = (
        (normal, QIcon.Mode.Normal, QIcon.State.Off),
        (muted, QIcon.Mode.Disabled, QIcon.State.Off),
        (muted, QIcon.Mode.Disabled, QIcon.State.On),
        (chosen, QIcon.Mode.Normal, QIcon.State.On),
        (chosen, QIcon.Mode.Selected, QIcon.State.Off),
        (chosen, QIcon.Mode.Selected, QIcon.State.On),
    )
    for colour, mode, state in looks:
        for size in _SIZES_PX:
            made.addPixmap(_pixmap(name, QColor(colour), size), mode, state)
    return made


def _pixmap(name: str, colour: QColor, size_px: int) -> QPixmap:
    drawing = asset("icons", f"{name}.svg").read_text(encoding="utf-8")
    renderer = QSvgRenderer(QByteArray(drawing.replace("currentColor", colour.name()).encode()))
    pixmap = QPixmap(size_px, size_px)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    renderer.render(painter, QRectF(0, 0, size_px, size_px))
    painter.end()
    return pixmap
