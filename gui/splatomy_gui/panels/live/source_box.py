"""Where the live video comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QComboBox, QFileDialog, QFormLayout, QLineEdit, QStackedWidget, QWidget

from splatomy.errors import InputError
from splatomy.io.options import InputOptions
from splatomy_gui.widgets.basics import button, row
from splatomy_gui.widgets.fields import ChoiceField, PathField

_KINDS = (
    ("recording", "Recording"),
    ("folder", "Folder that fills"),
    ("camera", "Camera or capture card"),
    ("network", "Network video"),
)


@dataclass(frozen=True)
class SourceChoice:
    """A source as the engine wants it named. name: for the person. rate: real or max.

    is_recording: it can be read a second time, from its start.
    """

    text: str
    name: str
    rate: str
    is_recording: bool
    options: InputOptions


class SourceBox(QWidget):
    """The picker: what kind, which one, and what is known about its lens."""

    changed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.kind = QComboBox()
        self.kind.addItems([text for _, text in _KINDS])
        self.kind.setToolTip("Where the video comes from")
        self.recording = PathField("A video, or the folder of a clip, played as if it came in now")
        self.folder_button = button("Folder...", self._choose_folder, "Choose the folder of a clip")
        self.folder = PathField("A folder that another program fills with frames", folder=True)
        self.camera = _line("0", "The camera's number, two numbers for two eyes (0+1), or its name")
        self.network = _line("rtsp://", "The address of the video; nothing else in the network is touched")
        self.details = QStackedWidget()
        for field in (row(self.recording, self.folder_button), self.folder, self.camera, self.network):
            self.details.addWidget(field)
        self.details.setSizePolicy(self.recording.sizePolicy())
        self.rate = ChoiceField(
            (("real", "As it comes"), ("max", "Every frame")),
            "As it comes: frames are passed over to keep up. Every frame: as slowly as need be (recordings)",
        )
        self.layout_field = ChoiceField(
            ((None, "Found out"), ("mono", "One eye"), ("sbs", "Side by side"), ("tb", "Top and bottom")),
            "How two eyes share the picture",
        )
        self.calibration = PathField("The lens of the endoscope (OpenCV, ROS, StereoMIS)")
        self.recording.edit.setPlaceholderText("a video, or the folder of a clip")
        self.folder.edit.setPlaceholderText("a folder")
        self.calibration.edit.setPlaceholderText("lens calibration, if there is one")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Source", row(self.kind, self.details, self.rate))
        self.more = row(self.layout_field, self.calibration)
        form.addRow("Eyes, lens", self.more)
        self.kind.currentIndexChanged.connect(self._kind_chosen)
        for edit in (self.recording.edit, self.folder.edit, self.camera, self.network):
            edit.textChanged.connect(self.changed)
        for field in (self.recording, self.folder, self.calibration):
            field.changed.connect(self.changed)

    def set_recording(self, path: Path) -> None:
        """Chooses a recording."""
        self.kind.setCurrentIndex(0)
        self.recording.set_path(path)
        self.changed.emit()

    def choice(self) -> SourceChoice:
        """What was chosen.

        Raises:
            InputError: something is missing or contradicts itself.
        """
        kind = _KINDS[self.kind.currentIndex()][0]
        options = InputOptions(layout=self.layout_field.value(), calibration=self.calibration.path())  # type: ignore[arg-type]
        rate = str(self.rate.value())
        if kind == "recording":
            path = _existing(self.recording.path(), "Choose a recording.")
            return SourceChoice(str(path), path.name, rate, True, options)
        if kind == "folder":
            path = _existing(self.folder.path(), "Choose the folder that fills with frames.")
            return SourceChoice(f"folder:{path}", path.name, rate, False, options)
        if kind == "camera":
            text = self.camera.text().strip()
            if not text:
                raise InputError("Give the camera's number or name: 0 is the first one.")
            return SourceChoice(f"camera:{text}", f"camera {text}", "real", False, options)
        address = self.network.text().strip()
        if not address.startswith(("rtsp://", "rtsps://")) or len(address) < 9:
            raise InputError("Give the address of the video: rtsp://host/stream.")
        return SourceChoice(address, "network video", "real", False, options)

    def _kind_chosen(self, index: int) -> None:
        self.details.setCurrentIndex(index)
        self.rate.setVisible(_KINDS[index][0] in ("recording", "folder"))
        self.changed.emit()

    def _choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder of a clip", self.recording.edit.text())
        if name:
            self.set_recording(Path(name))


def _line(text: str, tip: str) -> QLineEdit:
    made = QLineEdit(text)
    made.setToolTip(tip)
    return made


def _existing(path: Path | None, wish: str) -> Path:
    if path is None:
        raise InputError(wish)
    if not path.exists():
        raise InputError(f"There is no {path.name}. {wish}")
    return path.resolve()
