"""3D Slicer module: angiography runs to vessels over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import slicer
from slicer import vtkMRMLSequenceBrowserNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Minimum, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class SplatomyAngiography(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Splatomy Angiography")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Reconstruction")]
        parent.dependencies = ["SplatomyReaders", "Sequences", "Segmentations", "VolumeRendering"]
        parent.contributors = ["The Splatomy authors"]
        parent.helpText = _(
            "Turns a rotational angiography run (DSA) into a vessel volume over time.<ol>"
            "<li>Choose a DSA folder, a DICOM XA file or folder, or an image stack with a geometry file; or "
            "load an XA run from the DICOM browser as Splatomy angiography run.</li>"
            "<li>Reconstruct. The newest snapshot is shown while it runs.</li>"
            "<li>Look at volume, vessel surface, centrelines and the maps of arrival, peak and transit time; "
            "measure, save, or go on with SlicerVMTK.</li></ol>The work is done by an engine in a process of "
            "its own. <b>Research use only. Not a medical device.</b>"
        )
        parent.acknowledgementText = _("Method: 4DRGS. The engine is open source under Apache-2.0.")


@parameterNodeWrapper
class SplatomyAngiographyParameterNode:
    """Settings of the module, kept in the scene.

    steps: 0 = those of the preset. views: 0 = all. geometryPath, maskRunPath: empty = as the input says.
    """

    inputPath: Path
    geometryPath: Path
    maskRunPath: Path
    binning: Annotated[int, Minimum(1)] = 1
    browser: vtkMRMLSequenceBrowserNode
    method: str = "dynamic_vessels"
    preset: str = "draft"
    device: str = "auto"
    steps: Annotated[int, Minimum(0)] = 0
    views: Annotated[int, Minimum(0)] = 0
    outputFolder: Path
    livePreview: bool = True
    resultPath: Path


class SplatomyAngiographyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel: a thin shell over the logic."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None

    def setup(self) -> None:
        """Builds the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        from SplatomyLib.module_panel import ModulePanel

        self.logic = SplatomyAngiographyLogic()
        self.panel = ModulePanel(self, "SplatomyAngiography", shown=lambda _loaded: self._show())
        self.ui, self.session, self.results = self.panel.ui, self.panel.session, self.panel.results
        parts = ("volumeButton", "surfaceButton", "centrelineButton")
        for name in parts:
            getattr(self.ui, name).checked = True
        self.panel.start({"vmtkButton": self._to_vmtk, **dict.fromkeys(parts, self._show)})

    def cleanup(self) -> None:
        """The application ends, or the module is reloaded."""
        self.panel.close()

    def enter(self) -> None:
        """The module is shown."""
        self.panel.enter()

    def exit(self) -> None:
        """Another module is shown."""
        self.panel.exit()

    @property
    def parameters(self) -> Any:
        """The settings in the scene; there also while another module is shown."""
        return self.panel.parameters

    def open_run(self, path: Path) -> None:
        """Loads an input that another part of Slicer chose."""
        self.panel.open_run(path)

    def _show(self) -> None:
        loaded = self.results.loaded
        if loaded is None:
            return
        for name, keys in (("volumeButton", ["rendering"]), ("surfaceButton", ["vessels", "mesh"]),
                           ("centrelineButton", ["centreline"])):  # fmt: skip
            visible = bool(getattr(self.ui, name).checked)
            for key in keys:
                node = loaded.nodes.get(key)
                if node is not None:
                    display = node if node.IsA("vtkMRMLDisplayNode") else node.GetDisplayNode()
                    display.SetVisibility(visible)

    def _to_vmtk(self) -> None:
        vessels = None if self.results.loaded is None else self.results.loaded.nodes.get("vessels")
        if vessels is None:
            slicer.util.warningDisplay(_("Load a run with vessels first."))
        elif not hasattr(slicer.modules, "extractcenterline"):
            slicer.util.warningDisplay(
                _("SlicerVMTK is not installed. Install it with the Extensions Manager.")
            )
        else:
            slicer.util.selectModule("ExtractCenterline")
            widget = slicer.modules.extractcenterline.widgetRepresentation().self()
            widget.ui.inputSurfaceSelector.setCurrentNode(vessels)


class SplatomyAngiographyLogic(ScriptedLoadableModuleLogic):
    """What the module does, without its panel: see SplatomyLib.angiography."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.actions: Any = None

    def use(self, session: Any) -> None:
        """The session whose engine is used."""
        from SplatomyLib.angiography import AngiographyActions

        self.actions = AngiographyActions(session)

    def getParameterNode(self) -> Any:
        """The module's settings in the scene."""
        return SplatomyAngiographyParameterNode(super().getParameterNode())


class SplatomyAngiographyTest(ScriptedLoadableModuleTest):
    """The module's self test, inside Slicer: see SplatomyLib.selftest."""

    def runTest(self) -> None:
        """Runs everything."""
        from SplatomyLib import selftest

        slicer.mrmlScene.Clear(0)
        selftest.angiography(SplatomyAngiographyLogic())
        self.delayDisplay("Splatomy Angiography passed")
