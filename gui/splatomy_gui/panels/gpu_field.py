"""How many GPUs a reconstruction uses, and what that asks of the method's settings."""

from __future__ import annotations

from typing import Any

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QSpinBox, QVBoxLayout, QWidget

from splatomy.method import MethodSpec
from splatomy_gui.session import Session
from splatomy_gui.widgets.basics import label
from splatomy_gui.widgets.disabled import set_available
from splatomy_gui.widgets.kept import KeptField


class GpuField(QWidget):
    """A number of GPUs; not available, with the reason, where the method or the machine has but one."""

    changed = pyqtSignal()

    def __init__(self, session: Session, spec: MethodSpec) -> None:
        super().__init__()
        self._session, self._spec = session, spec
        self._reason: str | None = None
        self.count = QSpinBox()
        self.count.setRange(1, 1)
        self.count.setToolTip("GPUs that train together: each renders its share of a step's frames")
        self.count.valueChanged.connect(lambda _: self.changed.emit())
        KeptField(session, self.count, "GPUs")
        self.note = label("", "muted", wrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.count)
        layout.addWidget(self.note)
        session.machine.changed.connect(self._look)
        session.settings.changed.connect(lambda _: self._look())
        self._look()

    def set_method(self, spec: MethodSpec) -> None:
        """Another method is chosen."""
        self._spec = spec
        self._look()

    @property
    def replicas(self) -> int:
        """The processes that train together, one for each GPU."""
        return self.count.value()

    def with_shares(self, config: Any, changes: dict[str, Any]) -> dict[str, Any]:
        """The changes to a preset, with frames enough in a step that every GPU has one of them.

        config: what the preset and the changes make.
        """
        shared = self._spec.shared
        if shared is None or getattr(config, shared) >= self.replicas:
            self._tell(self._reason)
            return changes
        self._tell(f"Each step takes {self.replicas} frames, one for each GPU.")
        return {**changes, shared: self.replicas}

    def _look(self) -> None:
        device = str(self._session.settings.get("device"))
        one = "This method trains on one GPU." if self._spec.follow is None else None
        self._reason = one or self._session.machine.no_several_gpus(device)
        self.count.setMaximum(1 if self._reason is not None else self._session.machine.gpus(device))
        set_available(self.count, self._reason)
        self._tell(self._reason)

    def _tell(self, text: str | None) -> None:
        self.note.setText(text or "")
        self.note.setVisible(bool(text))
