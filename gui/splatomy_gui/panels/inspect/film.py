"""A film that flies through the kept cameras: real pictures of the engine, made-up tissue hatched."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PyQt6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.io.movie import captioned, open_movie
from splatomy.io.views import Views, write_views
from splatomy_gui.command import run_command
from splatomy_gui.panels.inspect.cameras import between
from splatomy_gui.panels.inspect.moving_surface import MovingSurface
from splatomy_gui.panels.inspect.run_pictures import read_picture_file, unobserved_mask
from splatomy_gui.views.compare_view import as_colour, hatched
from splatomy_gui.views.scene_view import CameraPose
from splatomy_gui.widgets.basics import label
from splatomy_gui.widgets.fields import ChoiceField, DecimalBox


@dataclass(frozen=True)
class Film:
    """What to film. poses: passed through in this order. times_s: first and last moment of the tissue."""

    poses: tuple[CameraPose, ...]
    times_s: tuple[float, float]
    duration_s: float
    frames_per_s: int
    size_px: tuple[int, int]

    @property
    def whole(self) -> int:
        """Number of its pictures."""
        return max(2, round(self.duration_s * self.frames_per_s))


class FilmDialog(QDialog):
    """How long and how large; ``wanted`` gets a Film."""

    def __init__(
        self,
        poses: list[CameraPose],
        range_s: tuple[float, float] | None,
        now_s: float,
        wanted: Callable[[Film], None],
        parent: QWidget,
    ) -> None:
        """range_s: first and last moment of the tissue; None = a film of the view as it stands."""
        super().__init__(parent)
        self.setWindowTitle("Film along cameras")
        self._poses, self._wanted = tuple(poses), wanted
        self._range_s, self._now_s = range_s or (now_s, now_s), now_s
        self.duration = DecimalBox()
        self.duration.setRange(0.5, 120)
        self.duration.setValue(min(60.0, max(3.0, self._range_s[1] - self._range_s[0])))
        self.duration.setSuffix(" s")
        self.duration.setToolTip("How long the film lasts")
        self.time = ChoiceField(
            [("play", "plays once"), ("still", f"stands still at {now_s:.2f} s")],
            "What the tissue does meanwhile",
        )
        self.rate = QSpinBox()
        self.rate.setRange(1, 60)
        self.rate.setValue(20)
        self.rate.setSuffix(" / s")
        self.rate.setToolTip("Pictures in a second")
        self.picture_size = ChoiceField(
            [((640, 480), "640 x 480"), ((1280, 720), "1280 x 720"), ((1920, 1080), "1920 x 1080")],
            "Size of the pictures",
        )
        form = QFormLayout()
        for text, field in (
            ("Duration", self.duration),
            ("Tissue", self.time),
            ("Pictures", self.rate),
            ("Size", self.picture_size),
        ):
            form.addRow(text, field)
            # Nothing moves in a still scene, and a recorded view has its own time and size.
            if field is self.time and self._range_s[0] == self._range_s[1]:
                form.setRowVisible(field, False)
            if field is self.picture_size and range_s is None:
                form.setRowVisible(field, False)
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        self.ok_button = buttons.button(QDialogButtonBox.StandardButton.Ok)
        if self.ok_button is not None:
            self.ok_button.setText("Render")
            self.ok_button.setToolTip("Render the film in the background")
        buttons.accepted.connect(self._accepted)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        how = "recorded from the view" if range_s is None else "rendered by the engine"
        text = f"The film flies through {len(poses)} kept cameras, {how}."
        layout.addWidget(label(text, "muted", wrap=True))
        layout.addLayout(form)
        if range_s is not None:
            layout.addWidget(label("What no picture shows is hatched.", "muted", wrap=True))
        layout.addWidget(buttons)

    def _accepted(self) -> None:
        times = self._range_s if self.time.value() == "play" else (self._now_s, self._now_s)
        size = cast(tuple[int, int], self.picture_size.value())
        film = Film(self._poses, times, self.duration.value(), self.rate.value(), size)
        self.accept()
        self._wanted(film)


def make_film(run: Path, surface: MovingSurface, film: Film, out: Path) -> Task[Path]:
    """Renders a film of a run with ``splatomy render`` and writes it as mp4.

    Raises:
        InputError: the engine refused.
    """
    count = film.whole
    poses = [between(list(film.poses), n / (count - 1)) for n in range(count)]
    matrices = [pose.matrices(film.size_px) for pose in poses]
    cameras = Cameras(np.stack([k for k, _ in matrices]), np.stack([m for _, m in matrices]), *film.size_px)
    times = np.linspace(*film.times_s, count)
    moves = len(surface.times_s) > 1
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_views(place / "path.json", Views(cameras, times))
        words = ("--cameras", str(place / "path.json"), "--out", str(place / "pictures"))
        yield from run_command("render", str(run), *words)
        with open_movie(out, *film.size_px, float(film.frames_per_s)) as movie:
            for n, (time_s, (k, matrix)) in enumerate(zip(times.tolist(), matrices, strict=True)):
                picture = read_picture_file(place / "pictures" / f"frame_{n:04d}.png")
                if picture is None:
                    raise InputError("The engine left a picture of the film out: render it again.")
                mask = unobserved_mask(surface, time_s, k, matrix, film.size_px)
                shown = as_colour(hatched(picture, mask))
                movie.add(captioned(shown, f"t = {time_s:.2f} s") if moves else shown)
                yield Progress("film", n + 1, count)
    return out
