"""Stand-ins for what only the application Slicer has: widgets, settings, timers, the parameter wrapper.

Widgets know the properties, methods and signals that the real ones have and refuse everything else, so a
module that uses a name wrongly fails here too. How real widgets behave is not tested by this.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
import typing
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
from PyQt6 import QtCore

_COMMON = {"enabled": True, "toolTip": "", "visible": True}
_PROPERTIES: dict[str, dict[str, Any]] = {
    "QLabel": {"text": "", "wordWrap": False},
    "QPushButton": {"text": "", "checked": False, "checkable": False},
    "QCheckBox": {"text": "", "checked": False},
    "QLineEdit": {"text": "", "placeholderText": ""},
    "QSpinBox": {"value": 0, "minimum": 0, "maximum": 99, "specialValueText": ""},
    "QComboBox": {"currentIndex": -1, "currentText": "", "count": 0},
    "QProgressBar": {"value": 0, "minimum": 0, "maximum": 100, "textVisible": True},
    "QPlainTextEdit": {"plainText": "", "readOnly": False, "maximumSize": None},
    "ctkCollapsibleButton": {"text": "", "collapsed": False},
    "ctkPathLineEdit": {"currentPath": "", "filters": None},
    "ctkDirectoryButton": {"directory": ""},
    "qMRMLNodeComboBox": {
        "nodeTypes": None, "addEnabled": True, "removeEnabled": True, "renameEnabled": False,
        "noneEnabled": False,
    },
    "qMRMLWidget": {"geometry": None},
    "qMRMLSegmentEditorWidget": {},
    "qMRMLTableView": {"minimumSize": None},
    "qMRMLSequenceBrowserPlayWidget": {},
    "qMRMLSequenceBrowserSeekWidget": {},
}  # fmt: skip
_SIGNALS: dict[str, set[str]] = {
    "QPushButton": {"clicked(bool)"},
    "QComboBox": {"currentIndexChanged(int)"},
    "ctkPathLineEdit": {"currentPathChanged(QString)"},
    "qMRMLNodeComboBox": {"currentNodeChanged(vtkMRMLNode*)"},
}
_SETTERS: dict[str, set[str]] = {
    "qMRMLWidget": {"setMRMLScene"},
    "qMRMLSegmentEditorWidget": {
        "setMRMLScene", "setMRMLSegmentEditorNode", "setSegmentationNode", "setSourceVolumeNode",
    },
    "qMRMLSequenceBrowserPlayWidget": {"setMRMLScene", "setMRMLSequenceBrowserNode"},
    "qMRMLSequenceBrowserSeekWidget": {"setMRMLScene", "setMRMLSequenceBrowserNode"},
    "qMRMLTableView": {"setMRMLScene", "setMRMLTableNode"},
    "QPlainTextEdit": {"moveCursor"},
}  # fmt: skip
_VALUE_OF = {
    "QLineEdit": "text", "QSpinBox": "value", "QCheckBox": "checked", "QComboBox": "currentText",
    "ctkPathLineEdit": "currentPath", "ctkDirectoryButton": "directory",
}  # fmt: skip


class Widget:
    """A widget of a .ui file by its class: known properties, methods and signals, nothing else."""

    def __init__(self, kind: str, parameter: str = "", items: list[str] | None = None) -> None:
        own = {
            "kind": kind, "parameter": parameter, "items": items or [], "connected": {}, "given": {},
            "node": None,
            "blocked": False,
        }  # fmt: skip
        self.__dict__.update(own)
        self.__dict__.update({**_COMMON, **_PROPERTIES[kind]})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _COMMON and name not in _PROPERTIES[self.kind]:
            raise AttributeError(f"{self.kind} has no property {name}")
        changed = getattr(self, name) != value
        self.__dict__[name] = value
        if changed and name == "currentPath":
            self.emit("currentPathChanged(QString)", value)

    def __getattr__(self, name: str) -> Any:
        if name in _SETTERS.get(self.kind, ()):
            return lambda value: self.given.__setitem__(name, value)
        raise AttributeError(f"{self.kind} has no {name}")

    def connect(self, signal: str, called: Callable[..., Any]) -> None:
        """As PythonQt: a signal by its signature."""
        if signal not in _SIGNALS.get(self.kind, ()):
            raise ValueError(f"{self.kind} has no signal {signal}")
        self.connected.setdefault(signal, []).append(called)

    def emit(self, signal: str, *values: Any) -> None:
        """What a person does."""
        for called in [] if self.blocked else list(self.connected.get(signal, [])):
            called(*values)

    def click(self) -> None:
        """A click, which a disabled button does not take."""
        assert self.enabled, "the button is disabled"
        if self.checkable:
            self.checked = not self.checked
        self.emit("clicked(bool)", self.checked)

    # -- combo boxes ---------------------------------------------------------------------------------

    def blockSignals(self, block: bool) -> None:
        self.__dict__["blocked"] = block

    def clear(self) -> None:
        self.items.clear()
        self.__dict__["currentIndex"] = -1

    def addItem(self, text: str) -> None:
        self.items.append(text)

    def setCurrentIndex(self, index: int) -> None:
        self.currentIndex = index
        self.emit("currentIndexChanged(int)", index)

    def currentNode(self) -> Any:
        return self.node

    def setCurrentNode(self, node: Any) -> None:
        if node is not self.node:
            self.__dict__["node"] = node
            self.emit("currentNodeChanged(vtkMRMLNode*)", node)


def _widgets(path: Path) -> dict[str, Widget]:
    found = {}
    for element in ElementTree.parse(path).getroot().iter("widget"):
        texts = {p.attrib["name"]: p.findtext("string") for p in element.findall("property")}
        items = [item.findtext("property/string") or "" for item in element.findall("item")]
        widget = Widget(element.attrib["class"], texts.get("SlicerParameterName") or "", items)
        found[element.attrib["name"]] = widget
        for prop in element.findall("property"):
            if prop.attrib["name"] == "enabled":
                widget.enabled = prop.findtext("bool") == "true"
            if prop.attrib["name"] == "checkable":
                widget.checkable = prop.findtext("bool") == "true"
    return found


_stored: dict[tuple[str, str], Any] = {}


def _parameter_node_wrapper(cls: type) -> type:
    """The typed settings of a scene's node, with two-way binding to widgets."""
    hints = typing.get_type_hints(cls)

    class Wrapped:
        """Values by name, kept with the node."""

        def __init__(self, node: Any) -> None:
            self.__dict__["parameterNode"] = node

        def __getattr__(self, name: str) -> Any:
            if name not in hints:
                raise AttributeError(name)
            default = getattr(cls, name, Path() if hints[name] is Path else None)
            return _stored.get((self.parameterNode.GetID(), name), default)

        def __setattr__(self, name: str, value: Any) -> None:
            kind = hints[name]
            if kind in (int, str, bool, Path) and not isinstance(value, kind):
                raise TypeError(f"{name} must be {kind}, got {value!r}")
            _stored[self.parameterNode.GetID(), name] = value
            for widget in _bound.get(self.parameterNode.GetID(), ()):
                if widget.parameter == name:
                    _show(widget, value)
            self.parameterNode.Modified()

        def connectGui(self, ui: Any) -> int:
            widgets = [w for w in vars(ui).values() if w.parameter]
            for widget in widgets:
                if widget.parameter not in hints:
                    raise ValueError(f"no parameter {widget.parameter}")
                _show(widget, getattr(self, widget.parameter))
            _bound[self.parameterNode.GetID()] = widgets
            return 1

        def disconnectGui(self, _tag: int) -> None:
            _bound.pop(self.parameterNode.GetID(), None)

    Wrapped.__name__ = cls.__name__
    return Wrapped


_bound: dict[str, list[Widget]] = {}
_panels: list[Any] = []


def _show(widget: Widget, value: Any) -> None:
    if widget.kind == "qMRMLNodeComboBox":
        widget.setCurrentNode(value)
    else:
        setattr(widget, _VALUE_OF[widget.kind], str(value) if isinstance(value, Path) else value)


class Module:
    """ScriptedLoadableModule and its logic and test."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent

    def getParameterNode(self) -> Any:
        name = type(self).__name__
        found = slicer.mrmlScene.GetFirstNodeByName(name)
        return found or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", name)

    def delayDisplay(self, text: str) -> None:
        """Shows a text in Slicer."""


class ModuleWidget:
    """ScriptedLoadableModuleWidget."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = SimpleNamespace(addWidget=lambda _widget: None)

    def setup(self) -> None:
        """Adds Slicer's own reload section."""

    def resourcePath(self, name: str) -> str:
        return str(Path(sys.modules[type(self).__module__].__file__ or "").parent / "Resources" / name)


class TurnedProcess(QtCore.QProcess):
    """A QProcess that looks at its pipes when it is asked.

    In Slicer the event loop does that. A Qt application is not made here: there is one in a process, and the
    desktop app's tests, which may run in the same one, need it with a display.
    """

    def readAllStandardOutput(self) -> QtCore.QByteArray:
        """What came by now."""
        self.waitForReadyRead(1)
        self.waitForFinished(1)
        return super().readAllStandardOutput()


class _Timer:
    def setInterval(self, _ms: int) -> None:
        """Nothing ticks by itself in a test."""

    def connect(self, _signal: str, _called: Any) -> None:
        """See setInterval."""

    def start(self) -> None:
        """See setInterval."""

    def stop(self) -> None:
        """See setInterval."""


class _Settings:
    values: typing.ClassVar[dict[str, Any]] = {}

    def value(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    def setValue(self, name: str, value: Any) -> None:
        self.values[name] = value


class Application:
    """What a test sees of the application: messages shown, and what a person answers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shown, self.answer = folder, list[str](), True
        self.selected: list[tuple[str, Any]] = []


@contextlib.contextmanager
def application(monkeypatch: Any, folder: Path) -> Iterator[Application]:
    """Slicer's own modules replaced by stand-ins, for one test."""
    app = Application(folder)
    _stored.clear()
    _bound.clear()
    _Settings.values.clear()
    qt = ModuleType("qt")
    qt.__dict__.update(
        QProcess=TurnedProcess, QProcessEnvironment=QtCore.QProcessEnvironment, QTimer=_Timer,
        QSettings=_Settings, QTextCursor=SimpleNamespace(End=11),
        QStandardPaths=SimpleNamespace(
            writableLocation=lambda _kind: str(folder / "data"), AppLocalDataLocation=9
        ),
        QFileDialog=SimpleNamespace(getSaveFileName=lambda *_: str(folder / "chosen.mrb")),
    )  # fmt: skip
    i18n = ModuleType("slicer.i18n")
    i18n.__dict__.update(tr=lambda text: text, translate=lambda _context, text: text)
    wrapper = ModuleType("slicer.parameterNodeWrapper")
    wrapper.__dict__.update(parameterNodeWrapper=_parameter_node_wrapper, Minimum=lambda low: low)
    scripted = ModuleType("slicer.ScriptedLoadableModule")
    scripted.__dict__.update(
        ScriptedLoadableModule=Module, ScriptedLoadableModuleLogic=Module, ScriptedLoadableModuleTest=Module,
        ScriptedLoadableModuleWidget=ModuleWidget,
    )  # fmt: skip
    for name, module in (
        ("qt", qt),
        (i18n.__name__, i18n),
        (wrapper.__name__, wrapper),
        (scripted.__name__, scripted),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    loads: dict[int, dict[str, Widget]] = {}

    def load_ui(path: str) -> Widget:
        found = _widgets(Path(path))
        root = found.pop(Path(path).stem)
        loads[id(root)] = found
        return root

    @contextlib.contextmanager
    def try_with_error_display(text: str, waitCursor: bool = False) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as Slicer's own does
            app.shown.append(f"{text} {error}")

    util = slicer.util
    for name, value in {
        "loadUI": load_ui, "childWidgetVariables": lambda root: SimpleNamespace(**loads[id(root)]),
        "tryWithErrorDisplay": try_with_error_display, "warningDisplay": app.shown.append,
        "confirmYesNoDisplay": lambda text: app.shown.append(text) or app.answer,
        "setSliceViewerLayers": lambda **layers: None, "mainWindow": lambda: None,
        "startupEnvironment": lambda: dict(os.environ),
        "selectModule": lambda name: app.selected.append((name, None)),
    }.items():  # fmt: skip
        monkeypatch.setattr(util, name, value, raising=False)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(
        connect=lambda *_: None, temporaryPath=str(folder), slicerHome=str(folder / "Slicer"),
        layoutManager=lambda: None, processEvents=lambda: None,
    ), raising=False)  # fmt: skip
    # Made anew: they keep the modules that they were imported with.
    ours = (
        "SplatomyLib.session", "SplatomyLib.panels", "SplatomyLib.module_panel", "SplatomyEndoscopy",
        "SplatomyAngiography", "SplatomySurface",
    )  # fmt: skip
    for name in (*ours, "SplatomyReaders"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield app
    for widget in _panels:
        widget.cleanup()
    _panels.clear()
    session = sys.modules.get("SplatomyLib.session")
    if session is not None:
        for current in session._sessions:
            current.close()
    for name in (*ours, "SplatomyReaders"):
        sys.modules.pop(name, None)


_PATIENCE_S = 240.0


def opened(name: str) -> Any:
    """A module's panel, as Slicer opens it, with the engine of this very environment."""
    widget = getattr(importlib.import_module(name), f"{name}Widget")()
    _panels.append(widget)
    widget.setup()
    widget.enter()
    widget.ui.enginePathEdit.currentPath = str(Path(sys.executable).with_name("splatomy"))
    return widget


def waited(widget: Any, until: Callable[[], Any]) -> None:
    """Polls as the application's timer does, until something is so."""
    end = time.monotonic() + _PATIENCE_S
    while not until():
        assert time.monotonic() < end, [
            (r.title, r.job.state, r.job.log[-3:]) for r in widget.session.logic.runs
        ]
        slicer.app.processEvents()
        widget.session.logic.poll()
        time.sleep(0.03)
