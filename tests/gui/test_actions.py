"""The table of actions, and controls that are not available."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QSlider, QSpinBox, QWidget

from splatomy_gui.actions import DEFAULT_SCOPES, SCOPES_OF_PAGE, TABLE
from splatomy_gui.workspaces import WORKSPACES

CONTROLS = (QAbstractButton, QComboBox, QSpinBox, QSlider, QLineEdit)
# Parts that Qt itself puts into other widgets.
OWN_PARTS = ("qt_", "ScrollLeftButton", "ScrollRightButton")


def missing_reasons(root: QWidget) -> list[str]:
    """Controls in a widget that are disabled by themselves, without saying why."""
    found = []
    for kind in CONTROLS:
        for control in root.findChildren(kind):
            own = control.objectName().startswith(OWN_PARTS) or isinstance(control.parent(), QSpinBox)
            disabled = control.testAttribute(Qt.WidgetAttribute.WA_ForceDisabled)
            if disabled and not own and "Not available" not in control.toolTip():
                found.append(f"{type(control).__name__} {control.objectName()} {control.toolTip()!r}")
    return found


def test_every_action_has_text_and_a_sentence() -> None:
    assert len({spec.name for spec in TABLE}) == len(TABLE)
    for spec in TABLE:
        assert spec.text and len(spec.tip) > len(spec.text) // 2 and not spec.tip.endswith("."), spec.name


@pytest.mark.parametrize("scopes", [DEFAULT_SCOPES, *SCOPES_OF_PAGE.values()])
def test_no_shortcut_does_two_things(scopes: tuple[str, ...]) -> None:
    keys = Counter(key for spec in TABLE if spec.scope in scopes for key in spec.shortcuts)
    assert [key for key, count in keys.items() if count > 1] == []


def test_every_action_is_found_and_says_why_it_cannot_be_done(window: Any) -> None:
    in_menus = [a for menu in window.menus.values() for a in menu.actions()]
    for action in window.actions_table.all():
        assert action.text() and action.toolTip()
        assert action in in_menus, action.objectName()
        if not action.isEnabled():
            assert "Not available" in action.toolTip()


def test_every_page_fits_and_gives_reasons(window: Any, qtbot: Any) -> None:
    window.resize(1280, 800)
    for place in ("start", "jobs", "preferences", *(w.key for w in WORKSPACES)):
        qtbot.mouseClick(window.bar_buttons[place], Qt.MouseButton.LeftButton)
        qtbot.wait(20)
        assert window.width() <= 1280 and window.height() <= 800
        assert missing_reasons(window.stack.currentWidget()) == []
    for name, step in window.stepper.buttons.items():
        assert step.isEnabled() or "Not available" in step.toolTip(), name
    assert not window.stepper.buttons["reconstruct"].isEnabled()


def test_keys_find_actions_and_shortcuts(window: Any, qtbot: Any) -> None:
    qtbot.keyClick(window, Qt.Key.Key_F1)
    assert window.dialogs[-1].windowTitle() == "Keyboard shortcuts"
    window.dialogs[-1].close()
    window.activateWindow()
    modifiers = Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier
    qtbot.keyClick(window, Qt.Key.Key_P, modifiers)
    palette = window.dialogs[-1]
    qtbot.keyClicks(palette.search, "preferences")
    qtbot.keyClick(palette.search, Qt.Key.Key_Return)
    assert window.stack.currentWidget() is window.preferences_page


def test_theme_switches_and_keeps_contrast(window: Any, qtbot: Any) -> None:
    from splatomy_gui.theme import THEMES, load_theme

    def luminance(name: str) -> float:
        rgb = [theme.colour(name).redF(), theme.colour(name).greenF(), theme.colour(name).blueF()]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(one), luminance(other)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    pairs = [
        (text, ground)
        for text in ("text", "muted", "good", "caution", "bad")
        for ground in ("window", "raised")
    ]
    pairs += [
        ("text", "button"),
        ("text", "base"),
        ("muted", "base"),
        ("on_primary", "primary"),
        ("on_tip", "tip"),
    ]
    for name in THEMES:
        theme = load_theme(name)
        low = [(pair, round(contrast(*pair), 2)) for pair in pairs if contrast(*pair) < 4.5]
        assert low == [], name
    before = window.palette().window().color().name()
    qtbot.keyClick(window, Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    assert window.palette().window().color().name() != before
