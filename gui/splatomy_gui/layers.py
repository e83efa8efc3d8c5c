"""The layers of the page on show: what the case tree switches on and off, and how opaque it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from PyQt6.QtCore import QObject, pyqtSignal


@dataclass(frozen=True)
class Layer:
    """One thing in a view. key: its name in the program; title: for people; colour: #rrggbb or empty."""

    key: str
    title: str
    visible: bool = True
    opacity: float = 1.0
    colour: str = ""


class LayerList(QObject):
    """Layers in the order of the tree; a page sets them and follows ``changed``."""

    changed = pyqtSignal(str)
    """Key of a layer that was switched, or empty when the list is another one."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._layers: dict[str, Layer] = {}

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(tuple(self._layers.values()))

    def __getitem__(self, key: str) -> Layer:
        return self._layers[key]

    def __contains__(self, key: str) -> bool:
        return key in self._layers

    def set(self, layers: list[Layer]) -> None:
        """Other layers; those known before keep how they were switched."""
        self._layers = {layer.key: self._layers.get(layer.key, layer) for layer in layers}
        self.changed.emit("")

    def clear(self) -> None:
        """No layer."""
        self.set([])

    def change(self, key: str, **fields: object) -> None:
        """Switches a layer, or changes its opacity or colour."""
        self._layers[key] = replace(self._layers[key], **fields)  # type: ignore[arg-type]
        self.changed.emit(key)
