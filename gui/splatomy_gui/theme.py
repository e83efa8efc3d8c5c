"""Dark and light: a palette, the names of our own colours, and one small style sheet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Template

from PyQt6.QtCore import Qt
from PyQt6.QtGui import QColor, QPalette
from PyQt6.QtWidgets import QApplication

from splatomy_gui.assets import asset

THEMES = ("dark", "light")
_ROLES = {
    "window": QPalette.ColorRole.Window,
    "text": QPalette.ColorRole.WindowText,
    "base": QPalette.ColorRole.Base,
    "alternate": QPalette.ColorRole.AlternateBase,
    "button": QPalette.ColorRole.Button,
    "accent": QPalette.ColorRole.Highlight,
    "on_accent": QPalette.ColorRole.HighlightedText,
    "link": QPalette.ColorRole.Link,
    "tip": QPalette.ColorRole.ToolTipBase,
    "on_tip": QPalette.ColorRole.ToolTipText,
    "muted": QPalette.ColorRole.PlaceholderText,
}


@dataclass(frozen=True)
class Theme:
    """A theme's name and its colours by name."""

    name: str
    colours: dict[str, str]

    def colour(self, name: str) -> QColor:
        """One of its colours."""
        return QColor(self.colours[name])


def load_theme(name: str) -> Theme:
    """The theme of that name from resources/themes."""
    return Theme(name, json.loads(asset("themes", f"{name}.json").read_text(encoding="utf-8")))


def chosen_theme(preference: str) -> str:
    """The theme to use for a preference: dark, light or system."""
    if preference in THEMES:
        return preference
    hints = QApplication.styleHints()
    is_light = hints is not None and hints.colorScheme() == Qt.ColorScheme.Light
    return "light" if is_light else "dark"


_current: Theme | None = None


def current_theme() -> Theme:
    """The theme in force."""
    return load_theme("dark") if _current is None else _current


def apply_theme(app: QApplication, preference: str, text_scale: int = 100) -> Theme:
    """Puts a theme in force; text_scale in percent."""
    global _current
    theme = load_theme(chosen_theme(preference))
    _current = theme
    palette = QPalette()
    for name, role in _ROLES.items():
        palette.setColor(role, theme.colour(name))
    for role in (QPalette.ColorRole.Text, QPalette.ColorRole.ButtonText, QPalette.ColorRole.BrightText):
        palette.setColor(role, theme.colour("text"))
    for role in (
        QPalette.ColorRole.WindowText,
        QPalette.ColorRole.Text,
        QPalette.ColorRole.ButtonText,
    ):
        palette.setColor(QPalette.ColorGroup.Disabled, role, theme.colour("disabled"))
    palette.setColor(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Highlight, theme.colour("border"))
    app.setStyle("Fusion")
    app.setPalette(palette)
    font = app.font()
    font.setPointSizeF(10 * text_scale / 100)
    app.setFont(font)
    sheet = Template(asset("themes", "style.qss").read_text(encoding="utf-8"))
    app.setStyleSheet(sheet.substitute(theme.colours, icons=asset("icons").as_posix()))
    return theme
