"""3D Slicer module: pictures of a still scene or object to a surface, also of its hidden parts."""

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


class SplatomySurface(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Splatomy Surface")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Reconstruction")]
        parent.dependencies = ["SplatomyReaders", "Sequences", "Segmentations", "SegmentEditor"]
        parent.contributors = ["The Splatomy authors"]
        parent.helpText = _(
            "Turns pictures of a still scene, with their cameras, into a surface.<ol>"
            "<li>Choose an image set (COLMAP, NeuS, NeRF, RGB-D with poses, an object with masks) or a "
            "folder of photos, and load it. Masks of the object and of what stands in front of it become a "
            "segmentation; what is corrected there with the Segment Editor is used by the next run.</li>"
            "<li>Choose the method: <i>pulled_surface</i> for what the pictures show, "
            "<i>completed_object</i> for an object that is partly hidden.</li>"
            "<li>Reconstruct. The newest snapshot is shown while it runs.</li>"
            "<li>Look at the surface: magenta is what no picture showed. Read the figures, measure, "
            "save.</li></ol>The work is done by an engine in a process of its own. "
            "<b>Research use only. Not a medical device.</b>"
        )
        parent.acknowledgementText = _(
            "Methods: GS-Pull and O2-Recon. The engine is open source under Apache-2.0."
        )


@parameterNodeWrapper
class SplatomySurfaceParameterNode:
    """Settings of the module, kept in the scene. steps: of each stage, 0 = those of the preset."""

    inputPath: Path
    masksPath: Path
    browser: vtkMRMLSequenceBrowserNode
    preset: str = "draft"
    method: str = "pulled_surface"
    device: str = "auto"
    steps: Annotated[int, Minimum(0)] = 0
    outputFolder: Path
    livePreview: bool = True
    resultPath: Path


class SplatomySurfaceWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel: a thin shell over the logic."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None

    def setup(self) -> None:
        """Builds the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        from SplatomyLib.module_panel import ModulePanel

        self.logic = SplatomySurfaceLogic()
        self.panel = ModulePanel(self, "SplatomySurface", shown=self._show_figures)
        self.ui, self.session, self.results = self.panel.ui, self.panel.session, self.panel.results
        self.panel.start({"gaussiansButton": self._show_gaussians})

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

    def _show_figures(self, loaded: Any) -> None:
        self.ui.figuresTable.setMRMLTableNode(loaded.nodes.get("metrics"))

    def _show_gaussians(self) -> None:
        model = None if self.results.loaded is None else self.results.loaded.nodes.get("gaussians")
        if model is not None:
            model.GetDisplayNode().SetVisibility(bool(self.ui.gaussiansButton.checked))


class SplatomySurfaceLogic(ScriptedLoadableModuleLogic):
    """What the module does, without its panel: see SplatomyLib.surfaces."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.actions: Any = None

    def use(self, session: Any) -> None:
        """The session whose engine is used."""
        from SplatomyLib.surfaces import SurfaceActions

        self.actions = SurfaceActions(session)

    def getParameterNode(self) -> Any:
        """The module's settings in the scene."""
        return SplatomySurfaceParameterNode(super().getParameterNode())


class SplatomySurfaceTest(ScriptedLoadableModuleTest):
    """The module's self test, inside Slicer: see SplatomyLib.selftest."""

    def runTest(self) -> None:
        """Runs everything."""
        from SplatomyLib import selftest

        slicer.mrmlScene.Clear(0)
        selftest.surface(SplatomySurfaceLogic())
        self.delayDisplay("Splatomy Surface passed")
