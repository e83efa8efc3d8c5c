"""Labels, buttons and cards in the app's style."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PyQt6.QtCore import QEvent, QSize, Qt, QUrl, pyqtSignal
from PyQt6.QtGui import (
    QAction,
    QDesktopServices,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QImage,
    QMouseEvent,
    QPixmap,
    QResizeEvent,
)
from PyQt6.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from splatomy.errors import InputError
from splatomy_gui.assets import icon
from splatomy_gui.tasks import Tasks

_NAME_PX, _ROOM_PX = 120, 4
"""Of a name: the least width on show, and what its letters need besides."""


def label(text: str, style: str = "", wrap: bool = False) -> QLabel:
    """A label; style: title, heading, muted, good, caution or bad."""
    made = QLabel(text)
    made.setObjectName(style)
    made.setWordWrap(wrap)
    made.setTextFormat(Qt.TextFormat.PlainText)
    return made


class NameLabel(QLabel):
    """The name of a file, case or run; a long one loses its middle, and its tooltip has all of it."""

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.setObjectName("heading")
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._whole = text
        self.setText(text)

    def setText(self, text: str | None) -> None:
        """Another name."""
        self._whole = text or ""
        self.setToolTip(self._whole)
        self.updateGeometry()
        self._fit()

    def text(self) -> str:
        """The whole name."""
        return self._whole

    def sizeHint(self) -> QSize:
        """As wide as the name."""
        metrics = self.fontMetrics()
        return QSize(metrics.horizontalAdvance(self._whole) + _ROOM_PX, metrics.height())

    def minimumSizeHint(self) -> QSize:
        """Some letters of either end."""
        return QSize(min(self.sizeHint().width(), _NAME_PX), self.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Shows as much as fits."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        shown = self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, self.width())
        super().setText(shown)


def button(text: str, slot: Callable[[], object], tip: str, primary: bool = False) -> QPushButton:
    """A push button that does something."""
    made = QPushButton(text)
    if primary:
        made.setObjectName("primary")
    made.setToolTip(tip)
    made.clicked.connect(lambda _=False: slot())
    return made


def tool_button(action: QAction, text_too: bool = False) -> QToolButton:
    """A tool button of an action."""
    made = QToolButton()
    made.setDefaultAction(action)
    made.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    if text_too:
        made.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    return made


def row(*widgets: QWidget | None, margin: int = 0, spacing: int = 8) -> QWidget:
    """Widgets side by side; None is a stretch."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(margin, margin, margin, margin)
    layout.setSpacing(spacing)
    for widget in widgets:
        if widget is None:
            layout.addStretch(1)
        else:
            layout.addWidget(widget)
    return made


def column(*widgets: QWidget | None, margin: int = 0, spacing: int = 8) -> QWidget:
    """Widgets one below the other; None is a stretch."""
    made = QWidget()
    layout = QVBoxLayout(made)
    layout.setContentsMargins(margin, margin, margin, margin)
    layout.setSpacing(spacing)
    for widget in widgets:
        if widget is None:
            layout.addStretch(1)
        else:
            layout.addWidget(widget)
    return made


def scrolled(widget: QWidget) -> QScrollArea:
    """A widget that is scrolled where there is too little room for it."""
    area = QScrollArea()
    area.setWidget(widget)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    return area


def set_style(widget: QWidget, name: str) -> None:
    """Another name of the style sheet for a widget that is on show."""
    widget.setObjectName(name)
    style = widget.style()
    if style is not None:
        style.unpolish(widget)
        style.polish(widget)


def set_hot(widget: QWidget, hot: bool) -> None:
    """Whether the style sheet shows a frame as pointed at."""
    widget.setProperty("hot", hot)
    set_style(widget, widget.objectName())


def reveal(path: Path) -> None:
    """Shows a file or folder in the system's file manager."""
    folder = path if path.is_dir() else path.parent
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


def ask_picture(tasks: Tasks, parent: QWidget, picture: QPixmap, name: str) -> None:
    """Asks where a picture shall be saved, and saves it as PNG on another thread. name: proposed."""
    chosen, _ = QFileDialog.getSaveFileName(parent, "Save picture", name, "PNG (*.png)")
    if chosen:
        path = Path(chosen)
        target, image = path if path.suffix else path.with_suffix(".png"), picture.toImage()
        tasks.start("The picture cannot be saved", lambda: _write_picture(image, target))


def _write_picture(image: QImage, path: Path) -> None:
    if not image.save(str(path), "PNG"):
        raise InputError(
            f"{path.name} cannot be written there; expected a folder with room that you may write to: choose "
            "another one."
        )


def card(*widgets: QWidget | None) -> QFrame:
    """A raised frame with widgets in it."""
    frame = QFrame()
    frame.setObjectName("card")
    layout = QVBoxLayout(frame)
    layout.setContentsMargins(16, 14, 16, 14)
    for widget in widgets:
        if widget is None:
            layout.addStretch(1)
        else:
            layout.addWidget(widget)
    return frame


class DropArea(QFrame):
    """A place to drop files and folders on, or to choose them by clicking."""

    dropped = pyqtSignal(object)
    """A Path."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__()
        self.setObjectName("drop")
        self.setAcceptDrops(True)
        self.setMinimumHeight(96)
        layout = QVBoxLayout(self)
        layout.setAlignment(Qt.AlignmentFlag.AlignCenter)
        title, more = label(text, "heading"), label(hint, "muted", wrap=True)
        for each in (title, more):
            each.setAlignment(Qt.AlignmentFlag.AlignCenter)
            layout.addWidget(each)
        self.file_button = button("Choose file...", self._choose_file, "Choose a file to open")
        self.file_button.setIcon(icon("open"))
        self.folder_button = button("Choose folder...", self._choose_folder, "Choose a folder to open")
        self.folder_button.setIcon(icon("folder"))
        layout.addWidget(row(None, self.file_button, self.folder_button, None))

    def changeEvent(self, event: QEvent | None) -> None:
        """Another theme has other icons."""
        super().changeEvent(event)
        if event is not None and event.type() is QEvent.Type.PaletteChange:
            self.file_button.setIcon(icon("open"))
            self.folder_button.setIcon(icon("folder"))

    def _choose_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open file")
        if name:
            self.dropped.emit(Path(name))

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Open folder")
        if name:
            self.dropped.emit(Path(name))

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Takes what has a path."""
        if event is not None and dropped_path(event) is not None:
            set_hot(self, True)
            event.acceptProposedAction()

    def dragLeaveEvent(self, event: QDragLeaveEvent | None) -> None:
        """Back to normal."""
        set_hot(self, False)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Tells the path."""
        set_hot(self, False)
        path = None if event is None else dropped_path(event)
        if event is not None and path is not None:
            event.acceptProposedAction()
            self.dropped.emit(path)


def dropped_path(event: QDropEvent) -> Path | None:
    """The first local file or folder of a drop."""
    data = event.mimeData()
    urls = [] if data is None else data.urls()
    files = [url.toLocalFile() for url in urls if url.isLocalFile()]
    return Path(files[0]) if files else None


class ClickableCard(QFrame):
    """A card that is one big button, by mouse and by keyboard."""

    clicked = pyqtSignal()

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setObjectName("card")
        self.setToolTip(tip)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:
        """A click."""
        if event is not None and event.button() is Qt.MouseButton.LeftButton:
            self.clicked.emit()

    def keyPressEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Return is a click."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.clicked.emit()
        else:
            super().keyPressEvent(event)

    def enterEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Shows that it can be clicked."""
        set_hot(self, True)

    def leaveEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Back to normal."""
        set_hot(self, self.hasFocus())

    def focusInEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Shows that it has the focus."""
        set_hot(self, True)

    def focusOutEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """Back to normal."""
        set_hot(self, False)
