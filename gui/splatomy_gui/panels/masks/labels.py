"""What hides the tissue: an occluder, a highlight, or nothing of the scene at all."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PyQt6.QtCore import QSize, pyqtSignal
from PyQt6.QtGui import QColor, QIcon, QPixmap
from PyQt6.QtWidgets import QComboBox

from splatomy.events import Progress, Task
from splatomy.review import FrameReview, Mask, MaskReview
from splatomy_gui.theme import current_theme

if TYPE_CHECKING:
    from splatomy.prepare.masks import Label

TITLES: dict[Label, tuple[str, str, str]] = {
    "occluder": (
        "Instrument, smoke",
        "mask",
        "What lies in front of the tissue: instruments, smoke, blood",
    ),
    "specular": (
        "Highlight",
        "highlight",
        "The light's reflection on tissue; left out of the training",
    ),
    "outside": ("Outside picture", "outside", "Rim, text, logo: nothing of the scene is there in any frame"),
}
"""Name, colour of the theme and explanation by label."""
_SWATCH_PX = 14


class LabelChoice(QComboBox):
    """What the tools mark."""

    chosen = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setIconSize(QSize(_SWATCH_PX, _SWATCH_PX))
        for label, (title, _, _) in TITLES.items():
            self.addItem(title, label)
        lines = "\n".join(f"{title}: {about}" for title, _, about in TITLES.values())
        self.setToolTip(f"What the tools mark as hidden (M: next)\n{lines}")
        self.refresh_colours()
        self.currentIndexChanged.connect(lambda _: self.chosen.emit(self.label))

    @property
    def label(self) -> Label:
        """The label in hand."""
        return list(TITLES)[self.currentIndex()]

    def next(self) -> None:
        """The label after this one, going round."""
        self.setCurrentIndex((self.currentIndex() + 1) % self.count())

    def refresh_colours(self) -> None:
        """The swatches in the colours of the theme in force."""
        for place, (_, colour, _) in enumerate(TITLES.values()):
            swatch = QPixmap(_SWATCH_PX, _SWATCH_PX)
            swatch.fill(current_theme().colour(colour))
            self.setItemIcon(place, QIcon(swatch))


def tints(frame: FrameReview) -> list[tuple[Mask, QColor]]:
    """The parts of a frame's mask that have another colour than an occluder."""
    theme = current_theme()
    layers = ((frame.specular, "highlight"), (frame.outside, "outside"))
    return [(mask, theme.colour(colour)) for mask, colour in layers if mask is not None]


def marked_everywhere(review: MaskReview, marked: Mask, hides: bool) -> Task[MaskReview]:
    """The review with the pixels ``marked`` (H, W) outside in every frame, or inside again.

    How far a frame was reviewed stays: the rim is no mask that a person drew for this very frame.
    """
    memo: dict[tuple[int, ...], FrameReview] = {}
    frames = []
    for number, frame in enumerate(review.frames):
        layers = (frame.add, frame.erase, frame.specular, frame.outside)
        key = tuple(id(layer) for layer in layers)
        if key not in memo:
            # Frames that share a layer go on sharing it: a long clip would not fit into memory otherwise.
            memo[key] = _marked(frame, marked, hides)
        made = memo[key]
        frames.append(
            replace(frame, add=made.add, erase=made.erase, specular=made.specular, outside=made.outside)
        )
        yield Progress("label", number + 1, len(review))
    return replace(review, frames=tuple(frames))


def _marked(frame: FrameReview, marked: Mask, hides: bool) -> FrameReview:
    def changed(layer: Mask | None, on: bool) -> Mask | None:
        if layer is None and not on:
            return None
        made = marked.copy() if layer is None else (layer | marked if on else layer & ~marked)
        made.flags.writeable = False
        return np.asarray(made) if made.any() else None

    return replace(
        frame,
        add=changed(frame.add, hides),
        erase=changed(frame.erase, not hides),
        specular=changed(frame.specular, False),
        outside=changed(frame.outside, hides),
    )
