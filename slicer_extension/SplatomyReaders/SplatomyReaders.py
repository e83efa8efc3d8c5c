"""Hidden module of 3D Slicer: readers, writers, drag and drop, the DICOM plugin and the sample data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest


class SplatomyReaders(ScriptedLoadableModule):
    """Registers what the visible modules and Slicer's own dialogs use."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Splatomy Readers")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Reconstruction")]
        parent.dependencies = ["Sequences", "Segmentations", "VolumeRendering"]
        parent.contributors = ["The Splatomy authors"]
        parent.helpText = _("Reads Splatomy's runs, cases and Gaussians. It has no panel of its own.")
        parent.acknowledgementText = ""
        parent.hidden = True
        slicer.app.connect("startupCompleted()", _register)


def _register() -> None:
    """After start-up, when the modules that take the registrations exist."""
    from SplatomyLib import dicom, samples

    samples.register()
    dicom.register()


class SplatomyReadersFileReader:
    """Runs, cases, DSA folders and Gaussians, in Slicer's dialogs and by drag and drop."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def description(self) -> str:
        """Its name in dialogs."""
        return _("Splatomy run, case, DSA folder, image set or Gaussians")

    def fileType(self) -> str:
        """The name that scripts give it."""
        return "SplatomyFile"

    def extensions(self) -> list[str]:
        """What dialogs offer."""
        return [
            _("Splatomy run") + " (run.json)", _("Splatomy case") + " (case.json)",
            _("DSA folder or image set") + " (transforms.json)", _("Gaussians") + " (*.ply)",
        ]  # fmt: skip

    def canLoadFileConfidence(self, path: str) -> float:
        """How sure it is that a file is its own; meshes are left to Slicer's reader of models."""
        from SplatomyLib.reading import kind_of

        return 0.9 if kind_of(Path(path)) else 0.0

    def load(self, properties: dict[str, Any]) -> bool:
        """Loads a file; what needs the engine goes on in the module that opens."""
        from SplatomyLib.reading import load_into

        with slicer.util.tryWithErrorDisplay(_("The file could not be loaded."), waitCursor=True):
            nodes = load_into(slicer.mrmlScene, Path(properties["fileName"]))
            self.parent.loadedNodes = [node.GetID() for node in nodes]
            return True
        return False


class SplatomyReadersFileWriter:
    """Time maps as NIfTI with NaN where there is no time, as the engine reads them."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def description(self) -> str:
        """Its name in dialogs."""
        return _("Splatomy time map")

    def fileType(self) -> str:
        """The name that scripts give it."""
        return "SplatomyTimeMap"

    def extensions(self, _node: Any) -> list[str]:
        """What dialogs offer."""
        return [_("Time map") + " (.nii.gz)", _("Time map") + " (.nrrd)"]

    def canWriteObjectConfidence(self, node: Any) -> float:
        """It writes time maps alone."""
        from SplatomyLib.bridge_volumes import EMPTY_VALUE

        is_map = node.IsA("vtkMRMLScalarVolumeNode") and node.GetAttribute(EMPTY_VALUE) is not None
        return 0.9 if is_map else 0.0

    def write(self, properties: dict[str, Any]) -> bool:
        """Writes one."""
        from SplatomyLib.bridge_volumes import save_volume

        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        with slicer.util.tryWithErrorDisplay(_("The map could not be written.")):
            save_volume(node, Path(properties["fileName"]))
            self.parent.writtenNodes = [node.GetID()]
            return True
        return False


class SplatomyReadersFileDialog:
    """Folders that are dropped on Slicer: runs, cases, DSA folders and image sets."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        parent.fileType = "SplatomyFolder"
        parent.description = _("Load with Splatomy")
        parent.action = slicer.qSlicerFileDialog.Read
        self._folders: list[Path] = []

    def isMimeDataAccepted(self) -> None:
        """Looks at what is dragged."""
        self._folders = self._known(self.parent.mimeData())
        self.parent.acceptMimeData(bool(self._folders))

    def dropEvent(self) -> None:
        """Takes what was dropped."""
        event = self.parent.dropEvent()
        self._folders = self._known(event.mimeData())
        if self._folders:
            event.acceptProposedAction()
            event.accept()

    def execDialog(self) -> bool:
        """Loads it."""
        from SplatomyLib.reading import load_into

        folders, self._folders = self._folders, []
        with slicer.util.tryWithErrorDisplay(_("The folder could not be loaded."), waitCursor=True):
            for folder in folders:
                load_into(slicer.mrmlScene, folder)
            return bool(folders)
        return False

    def _known(self, data: Any) -> list[Path]:
        from SplatomyLib.reading import kind_of

        paths = [Path(url.toLocalFile()) for url in data.urls()] if data.hasFormat("text/uri-list") else []
        return paths if paths and all(path.is_dir() and kind_of(path) for path in paths) else []


class SplatomyReadersTest(ScriptedLoadableModuleTest):
    """The readers' self test, inside Slicer: see SplatomyLib.selftest."""

    def runTest(self) -> None:
        """Runs everything."""
        from SplatomyLib import selftest

        slicer.mrmlScene.Clear(0)
        selftest.readers()
        self.delayDisplay("Splatomy Readers passed")
