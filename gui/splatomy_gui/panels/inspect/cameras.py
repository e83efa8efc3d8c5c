"""Kept cameras: a list in the case, and poses between them for a film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, Qt, pyqtSignal
from PyQt6.QtWidgets import QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from splatomy_gui.session import Session
from splatomy_gui.undo import ValueCommand
from splatomy_gui.views.scene_view import CameraPose
from splatomy_gui.widgets.basics import button, label, row
from splatomy_gui.widgets.disabled import set_available

DOCUMENT = "cameras.json"


@dataclass(frozen=True)
class Bookmark:
    """A kept camera. space: the workspace it belongs to. time_s: the moment it was kept at."""

    name: str
    space: str
    pose: CameraPose
    time_s: float


class Bookmarks(QObject):
    """The kept cameras of a workspace, in the case's document cameras.json; every change can be undone."""

    changed = pyqtSignal()

    def __init__(self, session: Session, space: str) -> None:
        super().__init__()
        self._session, self.space = session, space
        session.document_changed.connect(lambda name: self.changed.emit() if name == DOCUMENT else None)
        session.case_changed.connect(self.changed)

    @property
    def timed(self) -> bool:
        """False for views of a still scene, which are kept at no moment."""
        return self._session.clock.timed

    def _all(self) -> tuple[Bookmark, ...]:
        document = self._session.document(DOCUMENT)
        found = []
        for entry in document.get("cameras", []) if isinstance(document, dict) else []:
            try:
                pose = CameraPose.from_json(entry["pose"])
                found.append(Bookmark(str(entry["name"]), str(entry["space"]), pose, float(entry["time_s"])))
            except (KeyError, TypeError, ValueError):
                continue
        return tuple(found)

    def all(self) -> tuple[Bookmark, ...]:
        """Those of this workspace, oldest first."""
        return tuple(b for b in self._all() if b.space == self.space)

    def keep(self, pose: CameraPose, time_s: float) -> Bookmark:
        """Keeps a camera."""
        before = self._all()
        taken = {b.name for b in before}
        number = next(n for n in range(1, len(before) + 2) if f"Camera {n}" not in taken)
        made = Bookmark(f"Camera {number}", self.space, pose, time_s)
        self._push(f"Keep {made.name}", before, (*before, made))
        return made

    def delete(self, bookmark: Bookmark) -> None:
        """Deletes a kept camera."""
        before = self._all()
        self._push(f"Delete {bookmark.name}", before, tuple(b for b in before if b != bookmark))

    def rename(self, bookmark: Bookmark, name: str) -> None:
        """Another name."""
        if name.strip() and name != bookmark.name:
            before = self._all()
            made = Bookmark(name.strip(), bookmark.space, bookmark.pose, bookmark.time_s)
            self._push(f"Rename {name}", before, tuple(made if b == bookmark else b for b in before))

    def _push(self, text: str, before: tuple[Bookmark, ...], after: tuple[Bookmark, ...]) -> None:
        self._session.push(ValueCommand(text, self._set, before, after))

    def _set(self, bookmarks: tuple[Bookmark, ...]) -> None:
        entries: list[dict[str, Any]] = [
            {"name": b.name, "space": b.space, "pose": b.pose.as_json(), "time_s": b.time_s}
            for b in bookmarks
        ]
        self._session.set_document(DOCUMENT, {"contract": 1, "cameras": entries})


class CameraList(QWidget):
    """The kept cameras; a double click, or Show, looks from one."""

    wanted = pyqtSignal(object)
    """A Bookmark to look from."""
    film_wanted = pyqtSignal()

    def __init__(self, bookmarks: Bookmarks) -> None:
        super().__init__()
        self.bookmarks = bookmarks
        self.list = QListWidget()
        self.list.setToolTip("Kept cameras in the order of the film; double click looks from one")
        self.list.itemActivated.connect(lambda item: self._show())
        self.list.itemChanged.connect(self._renamed)
        self.list.currentRowChanged.connect(lambda _: self._allow())
        self.show_button = button("Show", self._show, "Look from the chosen camera")
        self.delete_button = button("Delete", self._delete, "Delete the chosen camera")
        self.film_button = button(
            "Film...", self.film_wanted.emit, "Render a film that flies from camera to camera"
        )
        self.empty = label("Ctrl+B keeps the camera of the 3D view.", "muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.empty)
        layout.addWidget(self.list, 1)
        layout.addWidget(row(self.show_button, self.delete_button, None, self.film_button, spacing=4))
        bookmarks.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Shows the cameras as they are now."""
        chosen = self.list.currentRow()
        self.list.blockSignals(True)
        self.list.clear()
        for bookmark in self.bookmarks.all():
            item = QListWidgetItem(bookmark.name)
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsEditable)
            kept = f", kept at {bookmark.time_s:.2f} s" if self.bookmarks.timed else ""
            item.setToolTip(f"{bookmark.name}{kept}; F2 renames")
            self.list.addItem(item)
        self.list.setCurrentRow(min(chosen, self.list.count() - 1))
        self.list.blockSignals(False)
        self.list.setVisible(self.list.count() > 0)
        self.empty.setVisible(self.list.count() == 0)
        self._allow()

    def _chosen(self) -> Bookmark | None:
        bookmarks, number = self.bookmarks.all(), self.list.currentRow()
        return bookmarks[number] if 0 <= number < len(bookmarks) else None

    def _show(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self.wanted.emit(chosen)

    def _delete(self) -> None:
        chosen = self._chosen()
        if chosen is not None:
            self.bookmarks.delete(chosen)

    def _renamed(self, item: QListWidgetItem) -> None:
        bookmarks, number = self.bookmarks.all(), self.list.row(item)
        if 0 <= number < len(bookmarks):
            self.bookmarks.rename(bookmarks[number], item.text())

    def _allow(self) -> None:
        none = None if self._chosen() is not None else "Choose a camera first."
        set_available(self.show_button, none)
        set_available(self.delete_button, none)
        few = None if self.list.count() >= 2 else "Keep two cameras first (Ctrl+B)."
        set_available(self.film_button, few)


def between(poses: list[CameraPose], share: float) -> CameraPose:
    """The pose at a share, 0 to 1, of the way along several poses.

    The focal point goes along a smooth curve through all of them (Catmull-Rom); the eye circles about it: the
    direction and the distance are blended apart, so that a flight around tissue does not dip into it.
    """
    place = float(np.clip(share, 0, 1)) * (len(poses) - 1)
    first = min(int(place), max(0, len(poses) - 2))
    t = place - first
    around = [poses[min(max(first + n, 0), len(poses) - 1)] for n in (-1, 0, 1, 2)]
    focal = _catmull_rom([np.array(p.focal_point) for p in around], t)
    arms = [np.array(p.position) - np.array(p.focal_point) for p in around[1:3]]
    lengths = [max(float(np.linalg.norm(arm)), 1e-9) for arm in arms]
    smooth = t * t * (3 - 2 * t)
    direction = _blended(arms[0] / lengths[0], arms[1] / lengths[1], smooth)
    length = lengths[0] ** (1 - smooth) * lengths[1] ** smooth
    up = _blended(np.array(around[1].view_up), np.array(around[2].view_up), smooth)
    angle = (1 - smooth) * around[1].view_angle_deg + smooth * around[2].view_angle_deg
    return CameraPose(tuple(focal + length * direction), tuple(focal), tuple(up), float(angle))


def _catmull_rom(points: list[NDArray[np.float64]], t: float) -> NDArray[np.float64]:
    p0, p1, p2, p3 = points
    rise = (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    return np.asarray(0.5 * (2 * p1 + (p2 - p0) * t + rise))


def _blended(one: NDArray[np.float64], other: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """A unit vector on the great circle between two."""
    angle = float(np.arccos(np.clip(one @ other, -1, 1)))
    if angle > np.pi - 1e-6:
        return one if share < 0.5 else other
    if angle < 1e-6:
        out = one
    else:
        out = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(angle)
    return np.asarray(out / max(float(np.linalg.norm(out)), 1e-12))
