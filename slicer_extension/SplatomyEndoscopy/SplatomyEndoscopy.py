"""3D Slicer module: endoscopic clips to moving tissue without the instruments."""

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


class SplatomyEndoscopy(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Splatomy Endoscopy")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Reconstruction")]
        parent.dependencies = [
            "SplatomyReaders",
            "Sequences",
            "Segmentations",
            "SegmentEditor",
            "VolumeRendering",
        ]
        parent.contributors = ["The Splatomy authors"]
        parent.helpText = _(
            "Turns an endoscopic clip into a moving tissue surface without the instruments.<ol>"
            "<li>Choose a video, a folder of frames or a case, and load it.</li>"
            "<li>Let the engine propose masks of the instruments; correct them with the Segment Editor and "
            "confirm them.</li><li>Reconstruct. The newest snapshot is shown while it runs.</li>"
            "<li>Watch the surface over time, see what was really observed and what was made up (magenta), "
            "measure, save.</li></ol>The work is done by an engine in a process of its own. "
            "<b>Research use only. Not a medical device.</b>"
        )
        parent.acknowledgementText = _("Method: Diff2DGS. The engine is open source under Apache-2.0.")


@parameterNodeWrapper
class SplatomyEndoscopyParameterNode:
    """Settings of the module, kept in the scene.

    lastFrame: first frame that is left out, 0 = to the end. steps: 0 = those of the preset.
    """

    inputPath: Path
    firstFrame: Annotated[int, Minimum(0)] = 0
    lastFrame: Annotated[int, Minimum(0)] = 0
    frameStep: Annotated[int, Minimum(1)] = 1
    browser: vtkMRMLSequenceBrowserNode
    preset: str = "draft"
    device: str = "auto"
    steps: Annotated[int, Minimum(0)] = 0
    outputFolder: Path
    livePreview: bool = True
    liveSource: str = ""
    resultPath: Path


class SplatomyEndoscopyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel: a thin shell over the logic."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: Any = None
        self._stack: Any = None

    def setup(self) -> None:
        """Builds the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        from SplatomyLib.live_panel import LivePanel
        from SplatomyLib.module_panel import ModulePanel

        self.logic = SplatomyEndoscopyLogic()
        self.panel = ModulePanel(
            self, "SplatomyEndoscopy", updated=self._show_mask_buttons, browsed=self._edit_masks_of
        )
        self.ui, self.session, self.results = self.panel.ui, self.panel.session, self.panel.results
        self.live = LivePanel(
            self.ui, self.session, self.panel.engine, lambda: self.logic.actions, lambda: self.parameters,
            self.results.of_run,
        )  # fmt: skip
        self.ui.segmentEditorWidget.setMRMLSegmentEditorNode(self._editor_node())
        self.panel.start({
            "proposeButton": lambda: self._masks(False), "propagateButton": lambda: self._masks(True),
            "confirmButton": self._confirm, "confirmAllButton": self._confirm_all,
            "saveMasksButton": self._save_masks, "stackButton": self._to_stack,
            "unstackButton": self._from_stack, "liveStartButton": self.live.start,
            "liveFreezeButton": self.live.freeze, "liveRewindButton": self.live.rewind,
            "liveUndoButton": self.live.undo,
        })  # fmt: skip

    def cleanup(self) -> None:
        """The application ends, or the module is reloaded."""
        self.panel.close()
        self.live.close()

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

    def _show_mask_buttons(self, parameters: Any) -> None:
        browser = parameters.browser
        has_masks = browser is not None and self.logic.actions.has_masks(browser)
        for name in ("proposeButton", "propagateButton", "confirmButton", "confirmAllButton", "stackButton",
                     "saveMasksButton"):  # fmt: skip
            getattr(self.ui, name).enabled = has_masks
        self.ui.unstackButton.enabled = has_masks and self._stack is not None

    def _edit_masks_of(self, browser: Any) -> None:
        self._stack = None
        if browser is not None and self.logic.actions.has_masks(browser):
            self._edit(self.logic.actions.mask_node(browser), self.logic.actions.picture_node(browser))

    def _editor_node(self) -> Any:
        found = slicer.mrmlScene.GetFirstNodeByName("SplatomySegmentEditor")
        if found is not None:
            return found
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
        node.UnRegister(None)
        node.SetName("SplatomySegmentEditor")
        return slicer.mrmlScene.AddNode(node)

    def _edit(self, segmentation: Any, volume: Any) -> None:
        editor = self.ui.segmentEditorWidget
        editor.setMRMLSegmentEditorNode(self._editor_node())
        editor.setSegmentationNode(segmentation)
        editor.setSourceVolumeNode(volume)

    # -- buttons -------------------------------------------------------------------------------------

    def _masks(self, propagate: bool) -> None:
        def told(text: str) -> None:
            self.ui.maskLabel.text = text
            self.panel.update()

        with slicer.util.tryWithErrorDisplay(_("The masks could not be made.")):
            self.panel.engine.ensure(lambda: self.logic.actions.make_masks(self.parameters, propagate, told))

    def _confirm(self) -> None:
        self._confirmed(everything=False)

    def _confirm_all(self) -> None:
        if slicer.util.confirmYesNoDisplay(
            _("Confirm the masks of all frames? Only do so after looking at them.")
        ):
            self._confirmed(everything=True)

    def _confirmed(self, everything: bool) -> None:
        with slicer.util.tryWithErrorDisplay(_("The masks could not be confirmed.")):
            self.logic.actions.confirm(self.parameters.browser, everything)
            self.ui.maskLabel.text = self.logic.actions.review_text(self.parameters.browser)

    def _save_masks(self) -> None:
        with slicer.util.tryWithErrorDisplay(_("The masks could not be saved.")):
            count = self.logic.actions.save_masks(self.parameters.browser)
            self.ui.maskLabel.text = _("The masks of {count} frames were saved.").format(count=count)

    def _to_stack(self) -> None:
        with slicer.util.tryWithErrorDisplay(_("The masks cannot be shown as a stack.")):
            volume, segmentation = self._stack = self.logic.actions.to_stack(self.parameters.browser)
            self._edit(segmentation, volume)
            slicer.util.setSliceViewerLayers(background=volume, fit=True)
            self.panel.update()

    def _from_stack(self) -> None:
        browser = self.parameters.browser
        with slicer.util.tryWithErrorDisplay(_("The masks could not be taken from the stack.")):
            self.logic.actions.from_stack(browser, self._stack)
            self._stack = None
            picture = self.logic.actions.picture_node(browser)
            self._edit(self.logic.actions.mask_node(browser), picture)
            slicer.util.setSliceViewerLayers(background=picture, fit=True)
            self.panel.update()


class SplatomyEndoscopyLogic(ScriptedLoadableModuleLogic):
    """What the module does, without its panel: see SplatomyLib.endoscopy."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.actions: Any = None

    def use(self, session: Any) -> None:
        """The session whose engine is used."""
        from SplatomyLib.endoscopy import EndoscopyActions

        self.actions = EndoscopyActions(session)

    def getParameterNode(self) -> Any:
        """The module's settings in the scene."""
        return SplatomyEndoscopyParameterNode(super().getParameterNode())


class SplatomyEndoscopyTest(ScriptedLoadableModuleTest):
    """The module's self test, inside Slicer: see SplatomyLib.selftest."""

    def runTest(self) -> None:
        """Runs everything."""
        from SplatomyLib import selftest

        slicer.mrmlScene.Clear(0)
        selftest.endoscopy(SplatomyEndoscopyLogic())
        self.delayDisplay("Splatomy Endoscopy passed")
