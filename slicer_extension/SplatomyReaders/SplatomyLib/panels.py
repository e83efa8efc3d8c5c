"""The sections that all modules have: engine, progress and results. Inside Slicer only.

Each takes the widgets by their names in the .ui file and a logic; none of them decides anything that
could be decided without a widget.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from SplatomyLib import bridge_case, bridge_markups, bridge_models, install
from SplatomyLib.bridge_nodes import RUN
from SplatomyLib.logic import Run
from SplatomyLib.protocol import State
from SplatomyLib.session import Session


class EnginePanel:
    """Finds, checks and installs the engine."""

    def __init__(self, ui: Any, session: Session) -> None:
        self._ui, self._session = ui, session
        ui.enginePathEdit.currentPath = session.engine_path()
        ui.engineSourceEdit.currentPath = session.engine_source()
        ui.enginePathEdit.connect("currentPathChanged(QString)", session.choose_engine)
        ui.engineSourceEdit.connect("currentPathChanged(QString)", session.choose_source)
        ui.checkEngineButton.connect("clicked(bool)", self._check)
        ui.installEngineButton.connect("clicked(bool)", self._install)
        if session.logic.engine is not None:
            self._told(session.logic.engine.text())

    def ensure(self, then: Callable[[], None]) -> None:
        """Calls ``then`` with an engine at hand; looks for one first when there is none yet."""
        if self._session.logic.engine is not None:
            then()
        else:
            self._try(self._session.candidates(), then)

    def _check(self, *_args: Any) -> None:
        self._session.logic.engine = None
        self.ensure(lambda: None)

    def _try(self, candidates: list[tuple[str, ...]], then: Callable[[], None]) -> None:
        if not candidates:
            self._told(_("No engine was found. Choose its program, or install it."))
            self._ui.engineButton.collapsed = False
            return
        self._told(_("Looking for the engine ..."))

        def told(text: str) -> None:
            if self._session.logic.engine is not None:
                self._told(text)
                then()
            elif len(candidates) > 1:
                self._try(candidates[1:], then)
            else:
                self._told(text)
                self._ui.engineButton.collapsed = False

        self._session.logic.check(candidates[0], told)

    def _install(self, *_args: Any) -> None:
        source = Path(self._session.engine_source())
        problem = install.source_problem(source)
        if problem:
            slicer.util.warningDisplay(problem)
            return
        variables = install.start_environment()
        python = next(install.pythons(variables, [Path(slicer.app.slicerHome)]), None)
        if python is None:
            slicer.util.warningDisplay(
                _("No Python 3.11 or newer was found. Install one from python.org first.")
            )
            return
        target = install.engine_folder(self._session.data_folder)
        if not slicer.util.confirmYesNoDisplay(install.install_question(python, target, source)):
            return
        steps = install.install_steps(python, target, source, gpu=bool(_nvidia(variables)))
        self._session.logic.install(steps, target, self._told)

    def _told(self, text: str) -> None:
        self._ui.engineLabel.text = text


def _nvidia(variables: dict[str, str]) -> str | None:
    return shutil.which("nvidia-smi", path=variables.get("PATH", ""))


class RunsPanel:
    """The list of runs, their progress, pause and cancel. run_again: resumes a run from its folder."""

    def __init__(self, ui: Any, session: Session, run_again: Callable[[Path], None]) -> None:
        self._ui, self._logic, self._run_again = ui, session.logic, run_again
        self._shown: Run | None = None
        self._listed: list[int] = []
        ui.runsComboBox.connect("currentIndexChanged(int)", self._choose)
        ui.pauseButton.connect("clicked(bool)", self._pause)
        ui.cancelButton.connect("clicked(bool)", lambda *_: self._shown and self._shown.runner.cancel())
        ui.resumeButton.connect("clicked(bool)", self._resume)
        self._logic.changed.connect(self._changed)
        self._list()

    def close(self) -> None:
        """The widget goes away."""
        self._logic.changed.disconnect(self._changed)

    def _list(self) -> None:
        numbers = [run.number for run in self._logic.runs]
        if numbers == self._listed:
            return
        self._listed = numbers
        self._ui.runsComboBox.blockSignals(True)
        self._ui.runsComboBox.clear()
        for run in self._logic.runs:
            self._ui.runsComboBox.addItem(run.title)
        self._ui.runsComboBox.blockSignals(False)
        if numbers:
            self._ui.runsComboBox.setCurrentIndex(len(numbers) - 1)
            self._choose(len(numbers) - 1)

    def _choose(self, index: int) -> None:
        if 0 <= index < len(self._logic.runs):
            self._shown = self._logic.runs[index]
            self._show()

    def _changed(self, run: Run) -> None:
        self._list()
        if run is self._shown:
            self._show()

    def _show(self) -> None:
        if self._shown is None:
            return
        job = self._shown.job
        share = job.share_done()
        # Unknown: a bar that only says that something is going on.
        self._ui.runProgressBar.maximum = 1000 if share is not None or job.state.is_over else 0
        self._ui.runProgressBar.value = 1000 if job.state is State.DONE else round(1000 * (share or 0.0))
        self._ui.runLabel.text = job.text(self._logic.now_s())
        text = "\n".join(job.log[-200:])
        if text != self._ui.logText.plainText:
            self._ui.logText.plainText = text
            self._ui.logText.moveCursor(qt.QTextCursor.End)
        can_pause = job.speaks and job.state in (State.RUNNING, State.PAUSED)
        self._ui.pauseButton.enabled = can_pause
        self._ui.pauseButton.text = _("Go on") if job.state is State.PAUSED else _("Pause")
        self._ui.cancelButton.enabled = not job.state.is_over and job.state is not State.STOPPING
        self._ui.resumeButton.enabled = job.speaks and job.state in (State.STOPPED, State.FAILED)

    def _pause(self, *_args: Any) -> None:
        if self._shown is not None:
            runner = self._shown.runner
            runner.resume() if runner.job.state is State.PAUSED else runner.pause()

    def _resume(self, *_args: Any) -> None:
        if self._shown is not None and self._shown.out is not None:
            self._run_again(self._shown.out)


class ResultsPanel:
    """Loads runs, measures, and saves the case."""

    def __init__(
        self, ui: Any, session: Session, shown: Callable[[bridge_case.Loaded], None] | None = None
    ) -> None:
        """shown: called with a run that was loaded."""
        self._ui, self._session, self._shown = ui, session, shown
        self.loaded: bridge_case.Loaded | None = None
        ui.loadResultButton.connect(
            "clicked(bool)", lambda *_: self.load(Path(ui.resultPathEdit.currentPath))
        )
        ui.measureLineButton.connect("clicked(bool)", self._measure)
        ui.saveMeasurementsButton.connect("clicked(bool)", self._save_measurements)
        ui.saveBundleButton.connect("clicked(bool)", self._save_bundle)

    def load(self, path: Path) -> bridge_case.Loaded | None:
        """Brings a run into the scene and shows it; what could not be loaded is said in the label."""
        with slicer.util.tryWithErrorDisplay(_("The run could not be loaded."), waitCursor=True):
            loaded = bridge_case.load_run(slicer.mrmlScene, path)
            self.loaded = loaded
            self._load_measurements(loaded)
            for curves in loaded.nodes.get("branches", []):
                curves.GetDisplayNode().SetVisibility(False)
            self._ui.resultPathEdit.currentPath = str(path)
            self._ui.resultLabel.text = " ".join(loaded.problems) or _("Loaded.")
            show_in_views(loaded)
            if self._shown is not None:
                self._shown(loaded)
            return loaded
        return None

    def of_run(self, run: Run) -> None:
        """A run is over: its result is loaded when it has one."""
        if (
            run.out is not None
            and run.job.state in (State.DONE, State.STOPPED)
            and (run.out / "run.json").is_file()
        ):
            self.load(run.out)

    def colour(self, by_evidence: bool) -> None:
        """Colours the surface by what was really seen, or as the camera saw it."""
        mesh = None if self.loaded is None else self.loaded.nodes.get("mesh")
        if mesh is None:
            return
        if by_evidence:
            bridge_models.show_evidence(slicer.mrmlScene, mesh)
        elif mesh.GetPolyData().GetPointData().HasArray("RGB"):
            bridge_models.show_own_colours(mesh)
        else:
            self._ui.resultLabel.text = _("This surface has no colours of its own.")

    def _load_measurements(self, loaded: bridge_case.Loaded) -> None:
        run = _run_folder(loaded)
        path = bridge_markups.measurements_file(run)
        if path.is_file():
            bridge_markups.load_measurements(slicer.mrmlScene, path, loaded.world, run.name, loaded.transform)

    def _measure(self, *_args: Any) -> None:
        world = None if self.loaded is None else self.loaded.world
        unit = "mm" if world is None else world.unit
        transform = None if self.loaded is None else self.loaded.transform
        line = bridge_markups.add_measurement(slicer.mrmlScene, "line", [], _("Length"), transform, unit)
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetReferenceActivePlaceNodeClassName("vtkMRMLMarkupsLineNode")
        selection.SetActivePlaceNodeID(line.GetID())
        slicer.app.applicationLogic().GetInteractionNode().SetCurrentInteractionMode(
            slicer.vtkMRMLInteractionNode.Place
        )

    def _save_measurements(self, *_args: Any) -> None:
        if self.loaded is None:
            slicer.util.warningDisplay(_("Load a run first: measurements are kept in its folder."))
            return
        with slicer.util.tryWithErrorDisplay(_("The measurements could not be saved.")):
            run = _run_folder(self.loaded)
            path = bridge_markups.measurements_file(run)
            count = bridge_markups.save_measurements(slicer.mrmlScene, path, self.loaded.world, run.name)
            self._ui.resultLabel.text = _("{count} measurements were saved.").format(count=count)

    def _save_bundle(self, *_args: Any) -> None:
        parent = slicer.util.mainWindow()
        name = qt.QFileDialog.getSaveFileName(parent, _("Save the case"), "", "Slicer scene (*.mrb)")
        if name:
            path = Path(name).with_suffix(".mrb")
            with slicer.util.tryWithErrorDisplay(_("The case could not be saved."), waitCursor=True):
                bridge_case.save_bundle(slicer.mrmlScene, path)
                self._ui.resultLabel.text = _("Saved as {name}.").format(name=path.name)


def _run_folder(loaded: bridge_case.Loaded) -> Path:
    """The folder of a run that was loaded."""
    return Path(next(node.GetAttribute(RUN) for node in loaded.all_nodes() if node.GetAttribute(RUN)))


def show_in_views(loaded: bridge_case.Loaded) -> None:
    """Slices show the volume or the picture; the 3D view is centred."""
    background = loaded.nodes.get("volume") or loaded.nodes.get("picture") or loaded.nodes.get("render")
    if background is not None:
        slicer.util.setSliceViewerLayers(background=background, fit=True)
    manager = slicer.app.layoutManager()
    if manager is not None and manager.threeDViewCount > 0:
        view = manager.threeDWidget(0).threeDView()
        view.resetFocalPoint()
        view.resetCamera()


def show_picture(loaded: bridge_case.Loaded) -> None:
    """One axial view with the input's frames, where they stand upright."""
    manager = slicer.app.layoutManager()
    if manager is not None:
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    slicer.util.setSliceViewerLayers(background=loaded.nodes["picture"], fit=True)
