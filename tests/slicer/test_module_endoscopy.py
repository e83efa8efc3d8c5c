"""The Endoscopy panel over the real engine and real MRML nodes; the application's widgets are stand-ins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk

from application import Application, opened, waited


def test_a_clip_from_the_file_to_the_result(app: Application, clip: Path, tmp_path: Path) -> None:
    widget = opened("SplatomyEndoscopy")
    ui, parameters = widget.ui, widget.parameters
    parameters.outputFolder = tmp_path / "runs"
    parameters.steps = 40
    parameters.inputPath = clip
    ui.loadButton.click()
    waited(widget, lambda: parameters.browser is not None)
    assert widget.session.logic.engine is not None
    assert ui.engineLabel.text.startswith("Engine ")
    assert ui.applyButton.enabled
    assert ui.segmentEditorWidget.given["setSegmentationNode"] is widget.logic.actions.mask_node(
        parameters.browser
    )

    from SplatomyLib import bridge_inputs

    # A person paints before there is a case: nothing of it may be lost.
    browser = parameters.browser
    browser.SetSelectedItemNumber(3)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    mask = widget.logic.actions.mask_node(browser)
    painted = np.zeros((1, 52, 64), np.uint8)
    painted[0, 4:14, 4:30] = 1
    segment = mask.GetSegmentation().GetNthSegmentID(0)
    picture = widget.logic.actions.picture_node(browser)
    slicer.util.updateSegmentBinaryLabelmapFromArray(painted, mask, segment, picture)
    ui.applyButton.click()
    assert "belong to no case" in app.shown[-1]
    ui.proposeButton.click()
    waited(widget, lambda: "confirmed" in ui.maskLabel.text)
    masks, _ = bridge_inputs.masks_of_input(browser)
    assert np.array_equal(masks[3], painted[0] > 0)
    ui.confirmAllButton.click()
    assert ui.maskLabel.text.startswith("8 of 8 frames confirmed")

    ui.applyButton.click()
    assert app.shown[-1].startswith("Confirm the masks")
    waited(widget, lambda: widget.results.loaded is not None)
    loaded = widget.results.loaded
    assert loaded.problems == []
    assert loaded.nodes["meshes"].GetNumberOfDataNodes() == 8
    run = widget.session.logic.runs[-1]
    # The run used the masks as they were painted: it was made of the case.
    from SplatomyLib.casefile import open_case
    from SplatomyLib.logic import source_of_run

    case = open_case(source_of_run(run.out))
    assert np.array_equal(case.masks, masks)
    assert set(case.states) == {"confirmed"}
    assert ui.runProgressBar.value == 1000
    ui.coloursButton.click()
    assert loaded.nodes["mesh"].GetDisplayNode().GetActiveScalarName() == "RGB"
    ui.saveBundleButton.click()
    assert (app.folder / "chosen.mrb").stat().st_size > 0


def test_a_mask_that_cannot_be_read_is_said_at_every_button(
    app: Application, clip: Path, tmp_path: Path
) -> None:
    from SplatomyLib import bridge_inputs

    widget = opened("SplatomyEndoscopy")
    ui, parameters = widget.ui, widget.parameters
    parameters.outputFolder = tmp_path / "runs"
    parameters.inputPath = clip
    ui.loadButton.click()
    waited(widget, lambda: parameters.browser is not None)
    browser = parameters.browser
    item = bridge_inputs.parts_of(browser)["masks"].GetNthDataNode(4)
    content = item.GetSegmentation()
    content.RemoveAllSegments()
    content.SetSourceRepresentationName("Closed surface")
    beside = vtk.vtkSphereSource()
    beside.SetCenter(500.0, 0.0, 0.0)
    beside.Update()
    segment = slicer.vtkSegment()
    segment.SetName("forceps")
    segment.AddRepresentation("Closed surface", beside.GetOutput())
    content.AddSegment(segment, "forceps")
    runs = len(widget.session.logic.runs)
    for name in ("confirmButton", "confirmAllButton", "stackButton", "proposeButton", "applyButton"):
        getattr(ui, name).click()
        assert 'The segment "forceps"' in app.shown[-1], name
    assert len(widget.session.logic.runs) == runs
    assert item.GetAttribute("Splatomy.ReviewState") != "confirmed"

    # The same, said by the engine's answer, when a person breaks a mask while it works.
    content.RemoveAllSegments()
    ui.proposeButton.click()
    content.AddSegment(segment, "forceps")
    waited(widget, lambda: 'The segment "forceps"' in ui.maskLabel.text)
    content.RemoveAllSegments()
    ui.proposeButton.click()
    waited(widget, lambda: "frames confirmed" in ui.maskLabel.text)
