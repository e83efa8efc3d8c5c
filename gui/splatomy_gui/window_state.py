"""What the window shows of the session: title, stepper, hints, and which actions can be done now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from splatomy_gui import steps
from splatomy_gui.workspaces import workspace

if TYPE_CHECKING:
    from splatomy_gui.main_window import MainWindow

_HINTS = {
    "load": "Drop a file or folder anywhere, then press Open.",
    "masks": "Check what is hidden in every frame; Enter confirms a frame.",
    "reconstruct": "Choose a preset and press Start.",
    "inspect": "Scrub the time below; F fits the view.",
    "export": "Choose a product and a format.",
}


def show_state(window: MainWindow) -> None:
    """Title, stepper, hint, and the actions on the case and its steps."""
    session, table = window.session, window.actions_table
    locked = window.locked_steps()
    if window.workspace_key:
        window.stepper.show_state(window.step_key, steps.done(session, window.workspace_key), locked)
    case = None if session.folder is None else session.folder.stem
    window.setWindowTitle(f"{case}{' *' if session.dirty else ''} - Splatomy" if case else "Splatomy")
    none = "No case is open." if session.case is None else None
    table.allow("save", none or (None if session.dirty else "Everything is saved."))
    table.allow("close_case", none if session.result is None else None)
    table.allow("reveal_case", none)
    keys = [step.key for step in workspace(window.workspace_key).steps] if window.workspace_key else []
    place = keys.index(window.step_key) if window.page is not None and window.step_key in keys else -1
    following = keys[place + 1] if 0 <= place < len(keys) - 1 else ""
    table.allow("next_step", "There is no next step here." if not following else locked.get(following))
    table.allow("previous_step", None if place > 0 else "There is no step before.")
    status = window.statusBar()
    if status is not None:
        status.showMessage(_HINTS.get(window.step_key, "") if window.page is not None else "")


def show_review(window: MainWindow) -> None:
    """The states of the masks in the timeline."""
    case = window.session.case
    states = () if case is None else tuple(frame.state for frame in case.review.frames)
    window.timeline.strip.set_states(states)


def show_undo(window: MainWindow) -> None:
    """What undo and redo would do."""
    undo, table = window.session.undo, window.actions_table
    table["undo"].setText(f"Undo {undo.undoText()}".strip())
    table["redo"].setText(f"Redo {undo.redoText()}".strip())
    table.allow("undo", None if undo.canUndo() else "There is nothing to take back.")
    table.allow("redo", None if undo.canRedo() else "There is nothing to do again.")
