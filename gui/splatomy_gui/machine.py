"""What this machine can compute on, as the engine told it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from PyQt6.QtCore import QObject, pyqtSignal


class Machine(QObject):
    """The facts of ``splatomy --version --json``; none until the engine has answered."""

    changed = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._devices: tuple[str, ...] | None = None

    @property
    def known(self) -> bool:
        """True once the engine has answered."""
        return self._devices is not None

    def take(self, facts: Mapping[str, Any]) -> None:
        """What the engine told."""
        self._devices = tuple(str(device["device"]) for device in facts["cuda_devices"])
        self.changed.emit()

    def gpus(self, device: str) -> int:
        """How many GPUs a run on that device may use: it, and those after it; "auto" is the first."""
        devices = self._devices or ()
        if device in devices:
            return len(devices) - devices.index(device)
        return len(devices) if device in ("auto", "cuda") else 0

    def no_several_gpus(self, device: str) -> str | None:
        """Why a run on that device cannot use more than one GPU; None if it can."""
        if not self.known:
            return "The engine has not yet told what this machine has."
        if sys.platform == "win32":
            return "Several GPUs together need Linux."
        if device == "cpu":
            return "The preferences say that reconstructions run on the CPU."
        count = self.gpus(device)
        if count > 1:
            return None
        return "This machine has one GPU for it." if count else "This machine has no GPU."
