"""What every module does with the input in the scene, without a panel. Inside Slicer only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from SplatomyLib.bridge_case import INPUT
from SplatomyLib.bridge_inputs import transform_of_input, world_of_input
from SplatomyLib.logic import new_run_folder
from SplatomyLib.protocol import JobSpec


def is_chosen(path: Any) -> bool:
    """True for a path that a person chose; an empty field becomes the path "."."""
    return str(path) not in ("", ".")


class Actions(ABC):
    """Loading of an input and its reconstruction. ``parameters`` are those of the module's settings."""

    def __init__(self, session: Any, load_first: str) -> None:
        """load_first: what a person is told while nothing is loaded."""
        self._session = session
        self._load_first = load_first

    def what_is_missing(self, parameters: Any) -> tuple[bool, str]:
        """Whether a reconstruction can start, and else what it needs."""
        browser = parameters.browser
        if browser is None or not browser.GetAttribute(INPUT):
            return False, self._load_first
        if not is_chosen(parameters.outputFolder):
            return False, _("Choose a folder for the runs first.")
        return True, ""

    @abstractmethod
    def options(self, parameters: Any) -> dict[str, Any]:
        """The input's options, as the job file names them."""

    def words(self, parameters: Any) -> list[str]:
        """The same options, as the engine's command line names them."""
        options = self.options(parameters)
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def load(self, parameters: Any, done: Any, failed: Any) -> Any:
        """Has the input unpacked and brings it into the scene."""
        source, folder = Path(parameters.inputPath), self._session.new_folder("frames")
        return self._session.logic.unpack(source, folder, done, failed, self.words(parameters))

    def start(
        self, parameters: Any, over: Any, source: Path | None = None, out: Path | None = None, **fields: Any
    ) -> Any:
        """Starts a run of the shown input.

        Args:
            parameters: of the module's settings.
            over: gets the run when it is over.
            source: used in place of the shown input.
            out: its folder, else a new one.
            fields: what the job's spec has beside those and the common settings.
        """
        browser = parameters.browser
        source = source or Path(browser.GetAttribute(INPUT))
        out = out or new_run_folder(Path(parameters.outputFolder), source.stem)
        spec = JobSpec(source, out, preset=parameters.preset, device=parameters.device, **fields)
        world, transform = world_of_input(browser), transform_of_input(browser)
        return self._session.logic.reconstruct(spec, world, transform, parameters.livePreview, over)
