"""The newest surface of a session in the 3D view, block by block."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt6.QtCore import QObject, QPointF, Qt, QTimer, pyqtSignal
from PyQt6.QtGui import QColor, QPainter, QPen

from splatomy_gui.session import Session
from splatomy_gui.theme import current_theme
from splatomy_gui.views.scene_view import SceneView

_TICK_MS = 33
_UPLOAD_S = 0.008
_DRAW_EVERY_S = 0.25
_OLD_S = 60.0
"""What was not seen for so long is shown in grey."""
_UNSURE = 64
_SPREAD = 2.4
"""Width of a point on the screen over the radius of its surfel, so that neighbours touch."""
_POINT_PX = (3.0, 28.0)
_GREY = 120.0


@dataclass(frozen=True)
class SurfaceNews:
    """What a snapshot changes. record: its JSON. blocks: file and points of those that are new, by key."""

    record: dict[str, Any]
    blocks: dict[str, tuple[str, dict[str, NDArray[Any]]]]
    gone: frozenset[str]


def read_news(file: Path, known: Mapping[str, str], aged: frozenset[str]) -> SurfaceNews:
    """Reads a snapshot and those of its blocks that are new.

    known: the file of every block on show. aged: keys of blocks to read again, since points in them have
    grown old.
    """
    from safetensors.numpy import load_file

    record = json.loads(file.read_text(encoding="utf-8"))
    now_s, listed = float(record["time_s"]), {}
    blocks = {}
    for entry in record["blocks"]:
        key, name = str(entry["key"]), str(entry["file"])
        listed[key] = name
        if known.get(key) != name or key in aged:
            arrays = load_file(file.with_name(name))
            colours = shown_colours(arrays, now_s)
            oldest = float(arrays["seen_s"].min(initial=np.inf))
            blocks[key] = (
                name,
                {
                    "xyz": arrays["xyz"],
                    "colours": colours,
                    "oldest_s": np.array(oldest),
                    "radius": np.median(arrays["radius"], keepdims=True) if len(colours) else np.zeros(1),
                },
            )
    return SurfaceNews(record, blocks, frozenset(known) - frozenset(listed))


def shown_colours(arrays: Mapping[str, NDArray[Any]], now_s: float) -> NDArray[np.uint8]:
    """Colours (N, 3): grey where points are unsure or were not seen for a minute."""
    colours = arrays["rgb"].astype(np.float32)
    doubtful = (arrays["confidence"] < _UNSURE) | (now_s - arrays["seen_s"] > _OLD_S)
    brightness = colours.mean(1, keepdims=True)
    grey = 0.5 * brightness + 0.5 * _GREY
    return np.where(doubtful[:, None], grey, colours).astype(np.uint8)


class LiveSurface(QObject):
    """Keeps a scene view at the newest snapshot: read on another thread, shown a little in every tick."""

    changed = pyqtSignal()
    """Another snapshot is on show."""

    def __init__(self, session: Session, view: SceneView) -> None:
        super().__init__(view)
        self._session, self._view = session, view
        self._files: dict[str, str] = {}
        self._oldest_s: dict[str, float] = {}
        self._radius: dict[str, float] = {}
        self._waiting: Path | None = None
        self._reading = False
        self._uploads: deque[tuple[str, dict[str, NDArray[Any]]]] = deque()
        self._run = 0
        self.record: dict[str, Any] = {}
        """The snapshot on show."""
        self.shown_at_s = self._drawn_s = 0.0
        self.frozen = False
        self.follow = True
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK_MS)
        self._timer.timeout.connect(self._upload)
        view.overlay.painters.append(self._paint_marks)
        view.camera_settled.connect(self._size_points)

    def clear(self) -> None:
        """Another session begins."""
        self._run += 1
        self._uploads.clear()
        self._timer.stop()
        self._files, self._oldest_s, self._radius, self.record = {}, {}, {}, {}
        self._waiting, self._reading, self.frozen = None, False, False
        self._view.remove_all()
        self.changed.emit()

    def close(self) -> None:
        """The view is about to be freed: what was not uploaded never is."""
        self._run += 1
        self._uploads.clear()
        self._waiting = None
        self._timer.stop()

    def take(self, file: Path) -> None:
        """A new snapshot; only the newest one is read."""
        self._waiting = file
        self._read_next()

    def _read_next(self) -> None:
        if self._reading or self._waiting is None or self._uploads:
            return
        file, self._waiting, self._reading = self._waiting, None, True
        now_s = float(self.record.get("time_s", 0.0))
        aged = frozenset(k for k, s in self._oldest_s.items() if now_s - s > _OLD_S)
        known, run = dict(self._files), self._run
        self._session.tasks.start(
            "The live surface cannot be read",
            lambda: read_news(file, known, aged),
            lambda news: self._read(news, run),
            lambda _: self._unread(run),
        )

    def _unread(self, run: int) -> None:
        # Its files were removed meanwhile: a newer snapshot is on its way.
        if run == self._run:
            self._reading = False
            self._read_next()

    def _read(self, news: SurfaceNews, run: int) -> None:
        if run != self._run:
            return
        self._reading = False
        first = not self.record
        self.record = news.record
        for key in news.gone:
            self._files.pop(key, None)
            self._oldest_s.pop(key, None)
            self._radius.pop(key, None)
            self._view.remove(f"block {key}")
        for key, (name, points) in news.blocks.items():
            self._files[key] = name
            self._oldest_s[key] = float(points["oldest_s"])
            self._radius[key] = float(points["radius"][0])
            self._uploads.append((key, points))
        self._view.set_metric(bool(news.record.get("metric")))
        self.shown_at_s = time.monotonic()
        if first or self.follow:
            self.look_from_scope()
        self._timer.start()
        self.changed.emit()

    def look_from_scope(self) -> None:
        """Looks from where the scope was at the snapshot."""
        if not self.record:
            return
        intrinsics = np.array(self.record["intrinsics"], np.float64)
        pose = np.array(self.record["camera_from_world"], np.float64)
        self._view.look(intrinsics, pose, int(self.record["size"][1]))

    def _upload(self) -> None:
        """A few blocks at a time, so that the window never waits."""
        end_s = time.perf_counter() + _UPLOAD_S
        while self._uploads and time.perf_counter() < end_s:
            key, points = self._uploads.popleft()
            self._view.show_points(f"block {key}", points)
        if not self._uploads:
            self._timer.stop()
            self._show()
            self._read_next()
        elif end_s - self._drawn_s > _DRAW_EVERY_S:
            self._show()

    def _show(self) -> None:
        """Draws what has been uploaded; with every block it would take many times as long."""
        self._drawn_s = time.perf_counter()
        if self.follow:
            self.look_from_scope()
        else:
            # What is new may lie nearer or farther than all before.
            self._view.set_pose(self._view.pose)
        self._size_points()

    def _size_points(self) -> None:
        """Points as large as their surfels at this distance, so that the surface has no gaps."""
        if not self._radius:
            return
        radius = float(np.median(list(self._radius.values())))
        size = float(np.clip(_SPREAD * radius / max(self._view.mm_per_px(), 1e-6), *_POINT_PX))
        for key in self._radius:
            actor = self._view.actor(f"block {key}")
            if actor is not None:
                actor.prop.point_size = size
        self._view.render()

    @property
    def settled(self) -> bool:
        """True when nothing waits to be read or shown."""
        return not (self._reading or self._uploads or self._waiting)

    @property
    def num_points(self) -> int:
        """Points of the snapshot on show."""
        return sum(int(entry["count"]) for entry in self.record.get("blocks", []))

    def _paint_marks(self, painter: QPainter) -> None:
        marks = self.record.get("marks") or []
        if not marks:
            return
        places = self._view.place_of(np.array([m["position"] for m in marks], np.float64))
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for mark, (x, y) in zip(marks, places):
            if not np.isfinite(x):
                continue
            for colour, width in ((QColor(0, 0, 0, 190), 5.0), (current_theme().colour("highlight"), 2.5)):
                painter.setPen(QPen(colour, width))
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawEllipse(QPointF(x, y), 6.0, 6.0)
            painter.setPen(QColor("white"))
            painter.drawText(QPointF(x + 10, y + 4), str(mark.get("name", "")))
