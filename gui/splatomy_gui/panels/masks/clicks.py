"""Smart clicks: an object from clicks on it, shown as a preview until it is accepted.

A model that the user supplies finds it; without one its colours do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PyQt6.QtCore import QObject, pyqtSignal
from PyQt6.QtGui import QColor

from splatomy.review import Mask
from splatomy_gui.frames import Frames
from splatomy_gui.panels.masks.editing import MaskEditor
from splatomy_gui.session import Session
from splatomy_gui.theme import current_theme
from splatomy_gui.undo import ValueCommand

if TYPE_CHECKING:
    from splatomy.prepare.onnx_clicks import ClickSegmenter, Embedding

_HELP = "Shift and click what is no part of it."


@dataclass(frozen=True)
class Clicks:
    """Clicks on one object of a frame. places: (x, y, True = Shift or the right button) in their order."""

    frame: int = -1
    places: tuple[tuple[int, int, bool], ...] = ()

    @property
    def hides(self) -> bool:
        """False if the first click was the opposite one: the object under it is taken out of the mask."""
        return not self.places or not self.places[0][2]

    def with_click(self, pixel: tuple[int, int], other: bool) -> Clicks:
        """One click more."""
        return replace(self, places=(*self.places, (*pixel, other)))

    def marks(self) -> Iterator[tuple[int, int, bool]]:
        """x, y of each click, and True if it is on the object."""
        for x, y, other in self.places:
            yield x, y, other != self.hides


class SmartClicks(QObject):
    """The object being clicked; nothing of the mask changes before it is accepted.

    Each click is a change that can be taken back. The model is loaded at the first click, a picture is
    encoded once; both on another thread, as is the search by colours.
    """

    changed = pyqtSignal()
    """Another object, or none, or it is being looked for."""

    def __init__(self, session: Session, editor: MaskEditor, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session, self._editor = session, editor
        self._model: ClickSegmenter | None = None
        self._loaded: tuple[str, ...] = ()
        self._embedding: tuple[Frames, int, Embedding] | None = None
        self._hint: tuple[Frames, Clicks, Any] | None = None
        self.clicks = Clicks()
        self._found: tuple[Clicks, Mask] | None = None
        self._leaving: tuple[Clicks, ...] = ()
        """Of frames that were left before the object was found: they are taken over once it is."""
        self.busy = False
        self._accepts = self._restoring = False

    # -- what is at work -------------------------------------------------------------------------

    @property
    def by_model(self) -> bool:
        """True if a model finds the objects, False if their colours do."""
        return all(path and Path(path).is_file() for path in self._paths())

    def text(self) -> str:
        """What finds the object, and what to do."""
        if self.busy:
            return "Smart click: looking for the object..."
        by_model = self.by_model
        way = f"by the model {Path(self._paths()[0]).stem}" if by_model else "by colour and brightness"
        if not self.pending:
            why = "" if by_model else f" ({self._without_model()})"
            return f"Click an object. It is found {way}{why}. {_HELP}"
        count = len(self.clicks.places)
        verb = "found" if self.clicks.hides else "to be taken out, found"
        return f"Preview: object {verb} {way}, {count} click{'s' if count > 1 else ''}. {_HELP}"

    def _without_model(self) -> str:
        paths = self._paths()
        if not any(paths):
            return "no model is chosen in Preferences, Models"
        if not all(paths):
            return f"the model has no {'decoder' if paths[0] else 'encoder'}: see Preferences, Models"
        missing = next(Path(path).name for path in paths if not Path(path).is_file())
        return f"the model file {missing} is not there: see Preferences, Models"

    # -- the object ------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """True while an object waits for an answer."""
        return bool(self.clicks.places)

    @property
    def found(self) -> Mask | None:
        """The object of the frame on show, (H, W), None if there is none."""
        here = self._found is not None and self._found[0].frame == self._session.clock.frame
        return self._found[1] if self._found is not None and here and self.pending else None

    def over(self, mask: Mask) -> Mask:
        """The mask (H, W) of the frame on show as it would be with the object."""
        found = self.found
        if found is None:
            return mask
        return mask | found if self.clicks.hides else mask & ~found

    def tints(self) -> list[tuple[Mask, QColor]]:
        """The object in the colour of what is not accepted yet."""
        found = self.found
        return [] if found is None else [(found, current_theme().colour("proposal"))]

    def click(self, pixel: tuple[int, int], other: bool) -> None:
        """A click on the object; other: on what does not belong to it."""
        frame = self._session.clock.frame
        before = self.clicks if self.clicks.frame == frame else Clicks(frame)
        if before is not self.clicks and self._accepts:
            self._leaving, self._accepts = (*self._leaving, self.clicks), False
        self._push("smart click", before, before.with_click(pixel, other))

    def accept(self) -> bool:
        """Takes the object over into the mask, as one change; False if there was none."""
        if not self.pending:
            return False
        if self._found is None or self._found[0] != self.clicks:
            self._accepts = True
            return True
        self._accepts = False
        clicks, found = self._found
        stack = self._session.undo
        stack.beginMacro(
            f"smart click, {self._session.clock.noun} {self._session.clock.number(clicks.frame)}"
        )
        self._editor.object("smart click", found, clicks.hides, clicks.frame)
        self._push("smart click", clicks, Clicks())
        stack.endMacro()
        return True

    def discard(self) -> bool:
        """Drops the object; False if there was none."""
        if not self.pending:
            return False
        self._accepts = False
        self._push("drop the clicked object", self.clicks, Clicks())
        return True

    def leave(self) -> None:
        """Another frame is shown: an object of the one before is taken over, which can be taken back."""
        if self.pending and self.clicks.frame != self._session.clock.frame and not self._restoring:
            self.accept()

    def forget(self) -> None:
        """Another case: nothing of this one is of use."""
        self._embedding = self._hint = self._found = None
        self._leaving, self._accepts = (), False
        self._put(Clicks())

    def _push(self, text: str, before: Clicks, after: Clicks) -> None:
        self._session.push(ValueCommand(text, self._put, before, after))

    def _put(self, clicks: Clicks) -> None:
        """Other clicks; for undo commands, which are pushed."""
        self.clicks = clicks
        if not clicks.places:
            # Taken back: what was clicked on that frame is not wanted any more.
            self._leaving = tuple(left for left in self._leaving if left.frame != clicks.frame)
        clock = self._session.clock
        if clicks.places and clock.frame != clicks.frame:
            # Taken back from another frame: whoever does it sees what it was.
            self._restoring = True
            clock.show(clicks.frame)
            self._restoring = False
        self._look()
        self.changed.emit()

    # -- looking for it --------------------------------------------------------------------------

    def _look(self) -> None:
        session, frames = self._session, self._session.frames
        clicks = self._leaving[0] if self._leaving else self.clicks
        known = self._found is not None and self._found[0] == clicks
        if self.busy or known or not clicks.places or frames is None:
            return

        def done(mask: Mask) -> None:
            if session.frames is not frames:
                return
            if clicks in self._leaving:
                self._editor.object("smart click", mask, clicks.hides, clicks.frame)
            # The newest clicks count: an answer to earlier ones is only shown until theirs is there.
            elif self.clicks.frame == clicks.frame:
                self._found = clicks, mask

        self.busy = True
        by_model = self.by_model
        task = session.tasks.start(
            "The smart click failed", lambda: self._make(frames, clicks, by_model), done
        )
        task.ended.connect(lambda: self._ended(frames, clicks))

    def _ended(self, frames: Frames, clicks: Clicks) -> None:
        self.busy = False
        answered = self._found is not None and self._found[0] == clicks
        # The same places of another case's frames were not looked at.
        here = self._session.frames is frames
        if here and clicks in self._leaving:
            self._leaving = tuple(left for left in self._leaving if left != clicks)
        elif here and self.clicks == clicks and not answered:
            self._accepts = False
            self.clicks = Clicks()
        self._look()
        if self._accepts and not self.busy:
            self.accept()
        self.changed.emit()

    def _make(self, frames: Frames, clicks: Clicks, by_model: bool) -> Mask:
        """The object (H, W); runs on another thread, one at a time."""
        picture = frames.picture(clicks.frame)
        colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
        if by_model:
            return self._by_model(frames, colour, clicks)
        from splatomy.prepare.masks import clicked_object

        inside = [(x, y) for x, y, on_object in clicks.marks() if on_object]
        return clicked_object(colour, inside, [(x, y) for x, y, on_object in clicks.marks() if not on_object])

    def _by_model(self, frames: Frames, colour: Any, clicks: Clicks) -> Mask:
        model = self._ready_model()
        # A case that was closed meanwhile has frames of the same numbers.
        embedding = self._embedding
        if embedding is None or embedding[0] is not frames or embedding[1] != clicks.frame:
            embedding = self._embedding = frames, clicks.frame, model.embed(colour)
        points = [(float(x), float(y)) for x, y, _ in clicks.marks()]
        labels = [int(on_object) for _, _, on_object in clicks.marks()]
        logits = None
        if self._hint is not None:
            seen, earlier, answer = self._hint
            begun = seen is frames and clicks.places[: len(earlier.places)] == earlier.places
            logits = answer if begun and earlier.frame == clicks.frame else None
        product = model.mask(embedding[2], points, labels, logits)
        self._hint = frames, clicks, product.logits
        return np.asarray(product.mask, dtype=bool)

    def _paths(self) -> tuple[str, str]:
        settings = self._session.settings
        return settings.get("mask_model"), settings.get("mask_decoder")

    def _ready_model(self) -> ClickSegmenter:
        """The model of the preferences; runs on another thread, one at a time."""
        from splatomy.prepare.onnx_clicks import ClickSegmenter

        paths = self._paths()
        if self._model is None or self._loaded != paths:
            self._model = ClickSegmenter(Path(paths[0]), Path(paths[1]), self._session.settings.get("device"))
            self._loaded, self._embedding, self._hint = paths, None, None
        return self._model
