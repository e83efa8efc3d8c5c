"""Builds one panel's .ui file with Qt: ``python panel_in_qt.py FILE.ui [PICTURE.png]``; a process of its own.

Plain widgets stand for those that only Slicer has. Prints what a test wants to know as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PyQt6 import QtWidgets, uic

# What Qt's own loader can make of them: groups that hold a layout, edits for paths, boxes for the rest.
PLAIN = {
    "ctkCollapsibleButton": "QGroupBox",
    "ctkPathLineEdit": "QLineEdit",
    "ctkDirectoryButton": "QPushButton",
    "qMRMLNodeComboBox": "QComboBox",
    "qMRMLWidget": "QWidget",
}
OF_SLICER = {
    "filters",
    "nodeTypes",
    "addEnabled",
    "removeEnabled",
    "renameEnabled",
    "noneEnabled",
    "collapsed",
}
WIDTH_PX = 420


def plain_ui(path: Path) -> str:
    """The file with plain widgets and without what Qt cannot know."""
    root = ElementTree.parse(path).getroot()
    for name in ("customwidgets", "connections"):
        found = root.find(name)
        if found is not None:
            root.remove(found)
    for widget in root.iter("widget"):
        kind = widget.attrib["class"]
        if not kind.startswith("Q"):
            widget.attrib["class"] = PLAIN.get(kind, "QFrame")
            for prop in widget.findall("property"):
                if prop.attrib["name"] in OF_SLICER:
                    widget.remove(prop)
                elif kind == "ctkCollapsibleButton" and prop.attrib["name"] == "text":
                    prop.attrib["name"] = "title"
    return ElementTree.tostring(root, encoding="unicode")


def main() -> None:
    """Builds the panel as narrow as Slicer's and describes it."""
    application = QtWidgets.QApplication([])
    panel = uic.loadUi(io.StringIO(plain_ui(Path(sys.argv[1]))))
    panel.resize(WIDTH_PX, 980)
    panel.show()
    application.processEvents()
    found = {
        widget.objectName(): {
            "width": widget.width(),
            "enabled": widget.isEnabled(),
            "tip": widget.toolTip(),
            "parameter": widget.property("SlicerParameterName"),
        }
        for widget in panel.findChildren(QtWidgets.QWidget)
    }
    if len(sys.argv) > 2:
        panel.grab().save(sys.argv[2])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
