"""What the window shows around its pages: icons of the theme, notes, measurements, and preferences in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from driving import open_by_drop
from PyQt6.QtCore import QPoint, Qt
from PyQt6.QtWidgets import QTreeWidgetItem

from splatomy_gui.measuring import MeasureKind, Measurement, MeasurementList
from splatomy_gui.plans import plan_run


def brightness(widget: Any) -> float:
    """Mean lightness of the opaque pixels of a button's icon, 0 to 255."""
    image = widget.icon().pixmap(24, 24).toImage()
    colours = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
    opaque = [colour.lightness() for colour in colours if colour.alpha() > 200]
    return sum(opaque) / len(opaque)


def children(item: QTreeWidgetItem) -> list[str]:
    return [item.child(n).text(0) for n in range(item.childCount())]


def test_icons_follow_the_theme(window: Any, qtbot: Any) -> None:
    timeline = window.timeline
    buttons = (timeline.back, timeline.on, timeline.play_button, window.bar_buttons["jobs"])
    window.session.settings.set("theme", "dark")
    assert all(brightness(button) > 150 for button in buttons)
    window.session.settings.set("theme", "light")
    assert all(brightness(button) < 110 for button in buttons)
    assert window.preferences_page.fields["theme"].value() == "light"


def test_a_note_covers_no_page(window: Any, qtbot: Any) -> None:
    window.tell("A note of a usual length, as after saving.")
    assert window.toast.isVisible()
    lower_edge = window.toast.mapTo(window, QPoint(0, window.toast.height())).y()
    assert lower_edge <= window.stack.mapTo(window, QPoint(0, 0)).y() + 8


def test_tree_lists_measurements_and_preferences_are_used(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session = window.session
    points = ((0.0, 0.0, 0.0), (3.0, 4.0, 0.0))
    taken = Measurement(0, MeasureKind.DISTANCE, "Neck", "a run", points, 5.0, "mm")
    MeasurementList(session).add(taken)
    tree = window.docks.case_tree.tree
    group = tree.findItems("Measurements", Qt.MatchFlag.MatchExactly)[0]
    assert children(group) == ["Neck: 5 mm"]
    session.undo.undo()
    assert children(tree.findItems("Measurements", Qt.MatchFlag.MatchExactly)[0]) == []

    assert "snapshot_every_s" not in plan_run(session, "dynamic_tissue", "draft", {}).fields["config"]
    session.settings.set("preview_every_s", 20.0)
    assert plan_run(session, "dynamic_tissue", "draft", {}).fields["config"] == {"snapshot_every_s": 20.0}
    own = {"snapshot_every_s": 3.0}
    assert plan_run(session, "dynamic_tissue", "draft", own).fields["config"] == own

    window.show_step("reconstruct")
    assert not window.page.memory.isVisible()
    session.settings.set("memory_gib", 1)
    assert window.page.memory.isVisible() and "1 GiB" in window.page.memory.text()
    session.settings.set("memory_gib", 4096)
    assert not window.page.memory.isVisible()
