"""How a live session stands: a lamp with words, a gauge of the delay, and honest counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PyQt6.QtCore import QPointF, QRectF, QSize, Qt
from PyQt6.QtGui import QPainter, QPaintEvent, QPolygonF
from PyQt6.QtWidgets import QHBoxLayout, QSizePolicy, QWidget

from splatomy_gui.theme import current_theme
from splatomy_gui.widgets.basics import column, label, set_style

STATES = {
    "": ("none", "Not running", "Choose a source and press Start."),
    "starting": ("none", "Starting", "The engine gets ready; this takes a few seconds."),
    "ok": ("good", "Tracking", "The scope's place is known; the surface grows."),
    "relocalised": ("good", "Found again", "The scope's place is known again."),
    "degraded": (
        "caution",
        "Weak",
        "Hold the scope still or go back a little; the surface does not grow now.",
    ),
    "lost": ("bad", "Lost", "Go back to a place that was seen before."),
    "paused": ("caution", "Paused", "Smoke, darkness or out of the body: nothing is learnt now."),
    "ended": ("none", "Ended", "The session is over; its result is kept."),
}
RUNGS = (
    "full service",
    "no mesh preview",
    "half the mapping steps",
    "fewer snapshots",
    "mask and depth models on every sixth frame",
    "deformation at keyframes only",
    "tracking in small pictures",
    "every second frame",
)


class StateLamp(QWidget):
    """The state by colour and by shape: disc, triangle, cross."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedSize(26, 26)
        self.colour = "none"
        self.setToolTip("State of the tracking: disc good, triangle weak, cross lost")

    def set_colour(self, colour: str) -> None:
        """good, caution, bad or none."""
        self.colour = colour
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints the shape."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(current_theme().colour(self.colour))
        if self.colour == "caution":
            painter.drawPolygon(QPolygonF([QPointF(13, 2), QPointF(25, 24), QPointF(1, 24)]))
        elif self.colour == "bad":
            for turn in (45, 90):
                painter.translate(13, 13)
                painter.rotate(turn)
                painter.drawRect(QRectF(-12, -3.5, 24, 7))
                painter.resetTransform()
        else:
            painter.drawEllipse(QRectF(2, 2, 22, 22))
        painter.end()


class LatencyGauge(QWidget):
    """The delay from a frame to the surface that shows it: the median, and what 95 % stay below."""

    most_s = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.median_s: float | None = None
        self.high_s: float | None = None
        self.setMinimumWidth(190)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("From a frame to the surface that shows it: the median, and what 95 % stay below")

    def sizeHint(self) -> QSize:
        """Two lines high."""
        return QSize(230, 38)

    def set_values(self, median_s: float | None, high_s: float | None) -> None:
        """Seconds, None = not known yet."""
        self.median_s, self.high_s = median_s, high_s
        self.update()

    def text(self) -> str:
        """The values in words."""
        if self.median_s is None or self.high_s is None:
            return "Delay: not known yet"
        return f"Delay: {self.median_s:.2f} s, 95 % below {self.high_s:.2f} s"

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Paints words and a bar on a square-root scale, which keeps short delays apart."""
        painter = QPainter(self)
        theme = current_theme()
        painter.setPen(theme.colour("text"))
        painter.drawText(QRectF(0, 0, self.width(), 20), Qt.AlignmentFlag.AlignLeft, self.text())
        bar = QRectF(0, 24, self.width(), 9)
        painter.fillRect(bar, theme.colour("button"))
        if self.median_s is not None and self.high_s is not None:
            colour = "good" if self.high_s <= 0.5 else "caution" if self.high_s <= 2.0 else "bad"
            high, median = (min(1.0, (s / self.most_s) ** 0.5) for s in (self.high_s, self.median_s))
            faint = theme.colour(colour)
            faint.setAlpha(110)
            painter.fillRect(QRectF(0, 24, bar.width() * high, 9), faint)
            painter.fillRect(QRectF(0, 24, bar.width() * median, 9), theme.colour(colour))
        painter.end()


class StatusStrip(QWidget):
    """Lamp, gauge and counts in one row."""

    def __init__(self) -> None:
        super().__init__()
        self.lamp = StateLamp()
        self.state = label("", "heading")
        self.advice = label("", "muted", wrap=True)
        self.gauge = LatencyGauge()
        self.counts = label("", "")
        self.counts.setToolTip("Frames that were learnt from, and those that were passed over to keep up")
        self.shed = label("", "muted")
        self.shed.setToolTip("What is left out when the machine does not keep up; the video never is")
        self.scores = label("", "muted")
        self.scores.setToolTip("How well the surface foretells each frame before it is learnt")
        words = column(self.state, self.advice, spacing=0)
        words.setMinimumWidth(230)
        numbers = column(self.counts, self.shed, spacing=2)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(14)
        for widget, stretch in ((self.lamp, 0), (words, 3), (self.gauge, 3), (numbers, 3), (self.scores, 1)):
            layout.addWidget(widget, stretch)
        self.show_state("")

    def show_state(self, state: str) -> None:
        """A state of the session; unknown ones show as their own word."""
        colour, title, advice = STATES.get(state, ("none", state, ""))
        self.lamp.set_colour(colour)
        self.state.setText(title)
        set_style(self.state, "heading")
        self.advice.setText(advice)

    def show_live(self, event: Mapping[str, Any], frozen: bool) -> None:
        """What the engine tells twice a second."""
        numbers = event.get("metrics") or {}
        self.show_state(str(event["state"]))
        if frozen:
            self.state.setText(f"{self.state.text()}, frozen")
            self.advice.setText("The surface is held as it is (F lets it grow again).")
        self.gauge.set_values(numbers.get("latency_p50_s"), numbers.get("latency_p95_s"))
        self.counts.setText(
            f"{_whole(numbers.get('frames'))} frames, {_whole(numbers.get('dropped'))} dropped "
            f"({_number(numbers.get('dropped_per_s'))} a second)"
        )
        rung = int(event["rung"])
        words = RUNGS[rung] if 0 <= rung < len(RUNGS) else f"step {rung}"
        self.shed.setText(f"{_number(numbers.get('fps'))} frames a second, {words}")
        set_style(self.shed, "muted" if rung == 0 else "caution")
        self.scores.setText(
            f"PSNR {_number(numbers.get('psnr'))} dB\n{_whole(numbers.get('surfels'))} surface points"
        )


def _whole(value: Any) -> str:
    return f"{int(value):,}" if isinstance(value, int | float) else "-"


def _number(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "-"
