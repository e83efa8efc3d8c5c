"""What every page of the stepper is."""

from __future__ import annotations

from dataclasses import dataclass

from PyQt6.QtCore import pyqtSignal
from PyQt6.QtWidgets import QWidget

from splatomy_gui.actions import Actions
from splatomy_gui.session import Session
from splatomy_gui.workspaces import Workspace


@dataclass(frozen=True)
class Shell:
    """What a page may use of the window besides the session."""

    session: Session
    actions: Actions
    workspace: Workspace


class Page(QWidget):
    """One step of a workspace; built when it is first shown, then kept until the app closes.

    It follows the session's signals and changes the session by its verbs. ``activate`` is the moment to bind
    the actions of its scope, since several pages share some of them.
    """

    step_wanted = pyqtSignal(str)
    """Key of a step to go to."""
    run_wanted = pyqtSignal(object)
    """Folder of a run to inspect, once it is read."""
    told = pyqtSignal(str)
    """A minor note for the person."""

    def __init__(self, shell: Shell) -> None:
        super().__init__()
        self.shell = shell
        self.session = shell.session
        self.actions_table = shell.actions

    def activate(self) -> None:
        """The page is on show now."""

    def deactivate(self) -> None:
        """Another page is on show now."""

    def close_page(self) -> None:
        """The app closes: free VTK and threads, once."""
