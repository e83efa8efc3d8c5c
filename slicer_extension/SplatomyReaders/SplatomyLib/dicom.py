"""XA and RF runs from the DICOM browser, on their way to the Angiography module.

Slicer's own plugin loads such runs as plain sequences; geometry is read from the headers by the engine.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import slicer

XRAY_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.1.1",
    "1.2.840.10008.5.1.4.1.1.12.2", "1.2.840.10008.5.1.4.1.1.12.2.1",
)  # fmt: skip
SOP_CLASS, SERIES_NUMBER, FRAMES = "0008,0016", "0020,0011", "0028,0008"
# Below Slicer's own plugin: a person chooses ours, it is never taken unasked.
_CONFIDENCE = 0.4


def xray_files(files: Sequence[str], value_of: Any) -> list[str]:
    """The files that are X-ray runs of more than one frame. value_of(file, tag): a header's text."""
    found = []
    for file in files:
        frames = value_of(file, FRAMES)
        many = str(frames).strip().isdigit() and int(frames) > 1
        if value_of(file, SOP_CLASS) in XRAY_CLASSES and many:
            found.append(file)
    return found


def input_of(files: Sequence[str], folder: Path) -> Path:
    """What the engine is given: the file itself, or a new folder with all of them."""
    if len(files) == 1:
        return Path(files[0])
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        # Numbered: names in a DICOM database may hold anything.
        shutil.copyfile(file, folder / f"run_{number:03d}.dcm")
    return folder


def register() -> None:
    """Adds the plugin to Slicer's DICOM browser; nothing happens where Slicer was built without DICOM."""
    try:
        from DICOMLib import DICOMLoadable, DICOMPlugin
    except ImportError:
        return

    class DICOMSplatomyPluginClass(DICOMPlugin):
        """Offers X-ray runs to the Angiography module."""

        def __init__(self) -> None:
            super().__init__()
            self.loadType = "Splatomy angiography run"
            self.tags["sopClassUID"], self.tags["frames"] = SOP_CLASS, FRAMES

        def examineForImport(self, fileLists: list[list[str]]) -> list[Any]:
            """The loadables of lists of files."""
            loadables = []
            for files in fileLists:
                runs = xray_files(files, slicer.dicomDatabase.fileValue)
                if runs:
                    loadable = DICOMLoadable()
                    loadable.files = runs
                    number = slicer.dicomDatabase.fileValue(runs[0], SERIES_NUMBER)
                    loadable.name = f"{number}: X-ray run for reconstruction"
                    loadable.tooltip = "Opens in Splatomy Angiography; the engine reads the geometry."
                    loadable.confidence, loadable.selected = _CONFIDENCE, False
                    loadables.append(loadable)
            return loadables

        def load(self, loadable: Any) -> bool:
            """Hands the run to the module."""
            from SplatomyLib.reading import open_in_module
            from SplatomyLib.session import session

            open_in_module("SplatomyAngiography", input_of(loadable.files, session().new_folder("dicom")))
            return True

    if not hasattr(slicer.modules, "dicomPlugins"):
        slicer.modules.dicomPlugins = {}
    slicer.modules.dicomPlugins["DICOMSplatomyPlugin"] = DICOMSplatomyPluginClass
