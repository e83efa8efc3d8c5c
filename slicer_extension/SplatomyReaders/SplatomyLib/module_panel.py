"""What the panels of all modules have in common: their sections, loading and starting. Inside Slicer only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from SplatomyLib.actions import is_chosen
from SplatomyLib.bridge_case import Loaded
from SplatomyLib.panels import EnginePanel, ResultsPanel, RunsPanel, show_picture
from SplatomyLib.session import session
from SplatomyLib.settings import Settings


class ModulePanel:
    """The common part of a module's panel; the module's widget keeps what is its own.

    After it is made the widget takes ``ui``, adds its own parts and calls ``start``.
    """

    def __init__(
        self, widget: Any, name: str, shown: Callable[[Loaded], None] | None = None,
        updated: Callable[[Any], None] | None = None, browsed: Callable[[Any], None] | None = None,
    ) -> None:  # fmt: skip
        """Builds the panel of the .ui file of that name.

        Args:
            widget: the module's, with its logic.
            name: of the module.
            shown: called with a run that was loaded.
            updated: called with the settings when anything is new.
            browsed: called with the input that is chosen now, or None.
        """
        self._widget, self._updated, self._browsed = widget, updated, browsed
        panel = slicer.util.loadUI(widget.resourcePath(f"UI/{name}.ui"))
        widget.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.session = session()
        widget.logic.use(self.session)
        self.engine = EnginePanel(self.ui, self.session)
        self.results = ResultsPanel(self.ui, self.session, shown)
        self.runs = RunsPanel(self.ui, self.session, self._resume)
        self._settings = Settings(widget, self.update)

    def start(self, buttons: Mapping[str, Callable[[], None]]) -> None:
        """Connects the buttons, those of the module by their names, and shows the settings."""
        common = {"loadButton": self._load, "applyButton": self._apply}
        # Vessels have no colours of a camera.
        if hasattr(self.ui, "evidenceButton"):
            common["evidenceButton"] = lambda: self.results.colour(True)
            common["coloursButton"] = lambda: self.results.colour(False)
        for name, clicked in {**common, **buttons}.items():
            getattr(self.ui, name).connect("clicked(bool)", lambda _checked=False, call=clicked: call())
        self.ui.browserSelector.connect(
            "currentNodeChanged(vtkMRMLNode*)", lambda _node: self._browser_changed()
        )
        self.enter()

    def close(self) -> None:
        """The application ends, or the module is reloaded."""
        self.runs.close()
        self._settings.let_go()
        self._widget.removeObservers()

    def enter(self) -> None:
        """The module is shown."""
        self._settings.start()

    def exit(self) -> None:
        """Another module is shown."""
        self._settings.let_go()

    @property
    def parameters(self) -> Any:
        """The settings in the scene; there also while another module is shown."""
        return self._settings.now

    def open_run(self, path: Path) -> None:
        """Loads an input that another part of Slicer chose, by the DICOM browser or by drag and drop."""
        self.enter()
        self.parameters.inputPath = path
        self._load()

    def update(self) -> None:
        """Shows what can be done now."""
        parameters = self._settings.connected
        if parameters is None:
            return
        ready, missing = self._actions.what_is_missing(parameters)
        self.ui.loadButton.enabled = is_chosen(parameters.inputPath)
        self.ui.applyButton.enabled = ready
        self.ui.applyButton.toolTip = _("Start the reconstruction.") if ready else missing
        if self._updated is not None:
            self._updated(parameters)

    @property
    def _actions(self) -> Any:
        return self._widget.logic.actions

    def _browser_changed(self) -> None:
        browser = self.ui.browserSelector.currentNode()
        self.ui.seekWidget.setMRMLSequenceBrowserNode(browser)
        # Views of a still scene are looked through, not played.
        if hasattr(self.ui, "playWidget"):
            self.ui.playWidget.setMRMLSequenceBrowserNode(browser)
        if self._browsed is not None:
            self._browsed(browser)

    def _load(self) -> None:
        def done(loaded: Loaded) -> None:
            self.parameters.browser = loaded.nodes["browser"]
            self.ui.inputLabel.text = " ".join(loaded.problems)
            show_picture(loaded)

        def failed(text: str) -> None:
            self.ui.inputLabel.text = text

        self.engine.ensure(lambda: self._actions.load(self.parameters, done, failed))

    def _apply(self) -> None:
        def start() -> None:
            with slicer.util.tryWithErrorDisplay(_("The reconstruction could not be started.")):
                self._actions.reconstruct(self.parameters, self.results.of_run)

        self.engine.ensure(start)

    def _resume(self, folder: Path) -> None:
        with slicer.util.tryWithErrorDisplay(_("The run could not be resumed.")):
            self.session.logic.resume(folder, self.parameters.livePreview, self.results.of_run)
