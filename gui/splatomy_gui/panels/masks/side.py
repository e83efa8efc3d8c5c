"""What stands around the frame: the tools, their sizes, the review, and the automatic steps."""

from __future__ import annotations

from PyQt6.QtCore import QEvent, QSize, Qt, pyqtSignal
from PyQt6.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from splatomy_gui.actions import Actions
from splatomy_gui.panels.masks.automatic import AutomaticMasks
from splatomy_gui.panels.masks.clicks import SmartClicks
from splatomy_gui.panels.masks.labels import LabelChoice
from splatomy_gui.views.mask_tools import LARGEST_PX, SMALLEST_PX
from splatomy_gui.widgets.basics import button, label, row, tool_button

TOOLS = (
    "mask_brush",
    "mask_eraser",
    "mask_lasso",
    "mask_polygon",
    "mask_fill",
    "mask_click",
    "mask_region",
)
_SHORT = {
    "mask_click": "Smart",
    "mask_copy": "Copy previous",
    "mask_clear": "Clear",
    "mask_invert": "Invert",
    "mask_grow": "Grow",
    "mask_shrink": "Shrink",
    "mask_propose_frame": "This frame",
    "mask_propose": "All frames",
    "mask_propagate_back": "Back",
    "mask_propagate": "On",
    "mask_propagate_both": "Both ways",
    "mask_propagate_all": "To all",
    "mask_interpolate": "Interpolate",
    "mask_unsure": "Least sure",
    "mask_next_open": "Next open",
    "mask_reject": "Reject",
    "mask_inpainted": "Without tools",
    "mask_show": "Mask",
    "undo": "Undo",
    "redo": "Redo",
}
"""Texts of buttons; the menus have longer ones."""
_TOUCH_PX = 44
_SIDE_PX = 256
_FRAME = ("mask_copy", "mask_invert", "mask_grow", "mask_shrink", "mask_clear")
_FIND = ("mask_propose_frame", "mask_propose")
_CARRY = (
    "mask_propagate_back",
    "mask_propagate",
    "mask_propagate_both",
    "mask_propagate_all",
    "mask_interpolate",
)


def _named_button(actions: Actions, name: str) -> QToolButton:
    action = actions[name]
    # A tool button takes this text of its action, also when the action changes later.
    action.setIconText(_SHORT.get(name, action.text()))
    return tool_button(action, text_too=True)


def wide_button(actions: Actions, name: str) -> QToolButton:
    """A tool button with its icon and a short text, as wide as its place."""
    made = _named_button(actions, name)
    made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    made.setMinimumWidth(40)
    made.setObjectName("framed")
    return made


class ToolStrip(QFrame):
    """One large button for each tool, then undo and redo."""

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        self.buttons: dict[str, QToolButton] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        for name in (*TOOLS, "undo", "redo"):
            if name == "undo":
                layout.addStretch(1)
            made = _named_button(actions, name)
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            made.setIconSize(QSize(22, 22))
            made.setMinimumSize(64, _TOUCH_PX + 4)
            self.buttons[name] = made
            layout.addWidget(made)


class ToolOptions(QWidget):
    """Size of the brush, pen pressure, opacity of the mask."""

    size_changed = pyqtSignal(int)
    opacity_changed = pyqtSignal(float)
    pressure_changed = pyqtSignal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.brush_size = _slider(SMALLEST_PX, LARGEST_PX, "Brush size ([ and ], or Shift and the wheel)")
        self.size_text = label("")
        self.size_text.setMinimumWidth(48)
        self.brush_size.valueChanged.connect(self._sized)
        self.opacity = _slider(0, 100, "Opacity of the mask (G switches it off and on)")
        self.opacity.valueChanged.connect(lambda value: self.opacity_changed.emit(value / 100))
        self.pressure = QCheckBox("Pen pressure")
        self.pressure.setToolTip("A pen that is pressed harder draws wider")
        self.pressure.setChecked(True)
        self.pressure.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.pressure.toggled.connect(self.pressure_changed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.label = LabelChoice()
        self.label.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        layout.addWidget(
            row(
                self.label,
                label("Brush", "muted"),
                self.brush_size,
                self.size_text,
                self.pressure,
                None,
                label("Opacity", "muted"),
                self.opacity,
            )
        )

    def changeEvent(self, event: QEvent | None) -> None:
        """Another theme has other colours."""
        super().changeEvent(event)
        if event is not None and event.type() is QEvent.Type.PaletteChange and hasattr(self, "label"):
            self.label.refresh_colours()

    def _sized(self, value: int) -> None:
        self.size_text.setText(f"{value} px")
        self.size_changed.emit(value)


def _slider(low: int, high: int, tip: str) -> QSlider:
    made = QSlider(Qt.Orientation.Horizontal)
    made.setRange(low, high)
    made.setToolTip(tip)
    made.setMinimumWidth(56)
    made.setMaximumWidth(150)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return made


class SidePanel(QScrollArea):
    """The review on top, then this frame, then the automatic steps."""

    frame_wanted = pyqtSignal(int)

    def __init__(self, actions: Actions, picture: str) -> None:
        """picture: what people call one picture of the input."""
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFixedWidth(_SIDE_PX)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.count = label("")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.bar.setToolTip(f"Share of the {picture}s whose mask is confirmed")
        self.confirm = QPushButton(f"Confirm {picture}")
        self.confirm.setObjectName("primary")
        self.confirm.setMinimumHeight(_TOUCH_PX - 8)
        self.confirm.clicked.connect(lambda _=False: actions["mask_confirm"].trigger())
        self.confirm.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.warnings = QListWidget()
        self.warnings.setWordWrap(True)
        self.warnings.setToolTip(f"What looks wrong: click to see the {picture}")
        self.warnings.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.warnings.itemClicked.connect(self._clicked)
        self.no_warnings = label("No mask looks wrong.", "muted", wrap=True)
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(8, 0, 4, 0)
        layout.setSpacing(5)
        layout.addWidget(row(label("Review", "heading"), None, self.count))
        layout.addWidget(self.bar)
        layout.addWidget(self.confirm)
        review = ("mask_reject", "mask_next_open", "mask_unsure")
        layout.addLayout(_grid(actions, review, 3))
        layout.addWidget(label("Needs a look", "heading"))
        layout.addWidget(self.warnings, 1)
        layout.addWidget(self.no_warnings)
        layout.addWidget(label(f"This {picture}", "heading"))
        layout.addLayout(_grid(actions, _FRAME, 2))
        layout.addWidget(label("Find instruments", "heading"))
        layout.addLayout(_grid(actions, _FIND, 2))
        layout.addWidget(label("Carry masks over", "heading"))
        layout.addLayout(_grid(actions, _CARRY, 2))
        layout.addStretch(0)
        self.setWidget(inner)

    def show_counts(self, confirmed: int, drawn: int, total: int) -> None:
        """How far the review is."""
        self.count.setText(f"{confirmed} of {total} confirmed")
        self.count.setToolTip(f"{confirmed} confirmed, {drawn} drawn and not confirmed, {total} in all")
        self.bar.setRange(0, max(1, total))
        self.bar.setValue(confirmed)

    def show_warnings(self, by_frame: dict[int, tuple[str, ...]]) -> None:
        """What looks wrong, by frame."""
        self.warnings.clear()
        for frame, texts in sorted(by_frame.items()):
            for text in texts:
                item = QListWidgetItem(text)
                item.setData(Qt.ItemDataRole.UserRole, frame)
                self.warnings.addItem(item)
        self.warnings.setVisible(bool(by_frame))
        self.no_warnings.setVisible(not by_frame)

    def _clicked(self, item: QListWidgetItem) -> None:
        self.frame_wanted.emit(int(item.data(Qt.ItemDataRole.UserRole)))


def _grid(actions: Actions, names: tuple[str, ...], columns: int) -> QGridLayout:
    grid = QGridLayout()
    grid.setSpacing(3)
    for place, name in enumerate(names):
        made = wide_button(actions, name)
        if columns == 3:
            made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        grid.addWidget(made, place // columns, place % columns)
    return grid


class PreviewBanner(QFrame):
    """Masks are being made, or wait to be accepted."""

    accepted = pyqtSignal()
    discarded = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("card")
        self.text: QLabel = label("", wrap=True)
        # Two lines at once: the picture must not move under the pointer when the text gets longer.
        self.text.setMinimumHeight(2 * self.text.fontMetrics().lineSpacing())
        self.progress = QProgressBar()
        self.progress.setMaximumWidth(160)
        self.progress.setToolTip("How far the masks are")
        self.accept = button(
            "Accept", self.accepted.emit, "Take what is shown over into the mask (Ctrl+Enter)", primary=True
        )
        self.discard = button("Discard", self.discarded.emit, "Drop them; nothing has changed yet (Esc)")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 6, 10, 6)
        line = row(self.text, self.progress, self.discard, self.accept)
        inner = line.layout()
        if inner is not None:
            inner.setStretch(0, 1)  # type: ignore[attr-defined]
        layout.addWidget(line)
        self.hide()

    def follow(self, automatic: AutomaticMasks, clicks: SmartClicks, clicking: bool) -> None:
        """Shows what goes on or waits. clicking: the smart click is in hand."""
        if automatic.busy:
            self.show_work(automatic.title)
        elif automatic.preview is not None:
            self.show_preview(automatic.preview.title, len(automatic.preview.frames))
        elif clicks.pending or clicking:
            self.show_text(clicks.text(), clicks.pending)
        else:
            self.hide()

    def show_work(self, title: str) -> None:
        """Work is going on."""
        self.text.setText(f"{title}: being made...")
        self.progress.setRange(0, 0)
        self.progress.show()
        self.accept.hide()
        self.discard.show()
        self.discard.setText("Stop")
        self.show()

    def show_progress(self, step: int, total: int) -> None:
        """How far it is."""
        self.progress.setRange(0, max(1, total))
        self.progress.setValue(step)

    def show_preview(self, title: str, count: int) -> None:
        """Masks wait for an answer."""
        frames = "1 frame" if count == 1 else f"{count} frames"
        self.show_text(f"Preview: {title.lower()} ({frames}). Look through the frames, then decide.", True)

    def show_text(self, text: str, waits: bool) -> None:
        """What a tool says. waits: it waits for an answer."""
        self.text.setText(text)
        self.progress.hide()
        self.accept.setVisible(waits)
        self.discard.setVisible(waits)
        self.discard.setText("Discard")
        self.show()
