"""The panels without a run; only the application's widgets are stand-ins."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from application import Application, opened, waited


def test_an_empty_panel_says_what_is_missing(app: Application) -> None:
    for name in ("SplatomyEndoscopy", "SplatomyAngiography", "SplatomySurface"):
        widget = opened(name)
        assert not widget.ui.applyButton.enabled
        assert "first" in widget.ui.applyButton.toolTip
        assert not widget.ui.loadButton.enabled
        widget.exit()


def test_a_missing_engine_and_a_missing_input_are_told(app: Application, tmp_path: Path) -> None:
    widget = opened("SplatomyAngiography")
    widget.parameters.inputPath = tmp_path / "nowhere"
    widget.ui.loadButton.click()
    waited(widget, lambda: widget.ui.inputLabel.text)
    assert "nowhere" in widget.ui.inputLabel.text
    widget.session.logic.engine = None
    widget.session.candidates = lambda: [("no-such-engine",)]
    widget.ui.checkEngineButton.click()
    assert "could not be started" in widget.ui.engineLabel.text
    assert widget.ui.engineButton.collapsed is False


def test_results_of_other_runs_are_loaded_and_measured(
    app: Application, dsa_run: Path, tmp_path: Path
) -> None:
    import shutil

    run = Path(shutil.copytree(dsa_run, tmp_path / "run"))
    widget = opened("SplatomyAngiography")
    widget.ui.resultPathEdit.currentPath = str(run)
    widget.ui.loadResultButton.click()
    assert widget.ui.resultLabel.text == "Loaded."
    widget.ui.vmtkButton.click()
    assert "SlicerVMTK is not installed" in app.shown[-1]
    widget.ui.saveMeasurementsButton.click()
    assert (run / "measurements.json").is_file()


def test_files_and_folders_find_their_reader(
    app: Application, scene: Any, dsa: Path, dsa_run: Path, clip_run: Path, clip_case: Path
) -> None:
    from types import SimpleNamespace

    from SplatomyLib.reading import kind_of

    module = importlib.import_module("SplatomyReaders")
    parent = SimpleNamespace()
    reader = module.SplatomyReadersFileReader(parent)
    gaussians = clip_run / "scene" / "gaussians.ply"
    for path in (dsa_run / "run.json", clip_case / "case.json", dsa / "transforms.json", gaussians):
        assert reader.canLoadFileConfidence(str(path)) == 0.9, path
    for path in (
        dsa_run / "meshes" / "mesh.ply",
        dsa_run / "metrics.json",
        dsa_run / "volumes" / "volume.nii.gz",
    ):
        assert reader.canLoadFileConfidence(str(path)) == 0.0, path
    assert reader.load({"fileName": str(gaussians)})
    node = scene.GetNodeByID(parent.loadedNodes[0])
    assert node.GetAttribute("Splatomy.Unit") == "mm"
    assert reader.load({"fileName": str(dsa_run / "run.json")})
    assert len(parent.loadedNodes) > 10
    assert [kind_of(p) for p in (dsa, dsa_run, clip_case)] == ["dsa", "run", "case"]
    writer = module.SplatomyReadersFileWriter(SimpleNamespace())
    maps = [n for n in parent.loadedNodes if writer.canWriteObjectConfidence(scene.GetNodeByID(n)) > 0]
    assert len(maps) == 3
    out = app.folder / "map.nii.gz"
    assert writer.write({"nodeID": maps[0], "fileName": str(out)})
    assert out.is_file()
