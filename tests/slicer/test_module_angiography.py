"""The Angiography panel over the real engine and real MRML nodes; the application's widgets are stand-ins."""

from __future__ import annotations

from pathlib import Path

from application import Application, opened, waited


def test_an_angiogram_is_watched_cancelled_and_resumed(app: Application, dsa: Path, tmp_path: Path) -> None:
    widget = opened("SplatomyAngiography")
    ui, parameters = widget.ui, widget.parameters
    parameters.outputFolder = tmp_path / "runs"
    parameters.inputPath = dsa
    ui.loadButton.click()
    waited(widget, lambda: parameters.browser is not None)
    parameters.steps = 100_000
    ui.applyButton.click()
    run = widget.session.logic.runs[-1]
    waited(widget, lambda: run.preview.nodes())
    assert ui.cancelButton.enabled
    shown = {node.GetID() for node in run.preview.nodes()}
    count = run.job.snapshots
    waited(widget, lambda: run.job.snapshots > count)
    assert {node.GetID() for node in run.preview.nodes()} == shown, "nodes are changed in place"
    ui.pauseButton.click()
    waited(widget, lambda: ui.pauseButton.text == "Go on")
    ui.pauseButton.click()
    waited(widget, lambda: ui.pauseButton.text == "Pause")
    ui.cancelButton.click()
    assert ui.runLabel.text == "Stopping ..."
    waited(widget, lambda: run.job.state.is_over)
    assert ui.runLabel.text.startswith("Stopped")
    assert run.preview.nodes() == []
    assert "volume" in widget.results.loaded.nodes
    assert "not finished" in ui.resultLabel.text
    ui.surfaceButton.click()
    vessels = widget.results.loaded.nodes.get("vessels")
    assert vessels is None or not vessels.GetDisplayNode().GetVisibility()

    ui.resumeButton.click()
    again = widget.session.logic.runs[-1]
    assert again is not run and again.out == run.out
    waited(widget, lambda: again.job.stage == "train" and again.job.step > 1)
    widget.session.logic.shut_down()
    assert again.job.state.is_over
