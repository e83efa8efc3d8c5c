"""What the window's actions do, and the questions it asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PyQt6.QtCore import Qt
from PyQt6.QtWidgets import QFileDialog, QMessageBox

import splatomy
from splatomy_gui.panels.start_page import NOTICE
from splatomy_gui.problem import Problem
from splatomy_gui.widgets.basics import ask_picture, reveal
from splatomy_gui.widgets.command_palette import CommandPalette
from splatomy_gui.widgets.shortcut_sheet import ShortcutSheet
from splatomy_gui.worker import JobState

if TYPE_CHECKING:
    from splatomy_gui.main_window import MainWindow


def bind_shell(window: MainWindow) -> None:
    """Says what the actions of the whole window do."""
    session, table = window.session, window.actions_table
    slots: dict[str, Callable[..., object]] = {
        "new": window.show_start,
        "open_file": lambda: _choose_file(window),
        "open_folder": lambda: _choose_folder(window),
        "save": session.save,
        "close_case": lambda: _close_case(window),
        "reveal_case": lambda: reveal(session.folder) if session.folder is not None else None,
        "preferences": lambda: window.go("preferences"),
        "quit": window.close,
        "undo": session.undo.undo,
        "redo": session.undo.redo,
        "next_step": lambda: _step(window, 1),
        "previous_step": lambda: _step(window, -1),
        "show_jobs": lambda: window.show_bottom(0),
        "show_log": lambda: window.show_bottom(1),
        "toggle_case_tree": lambda on: window.docks.case.setVisible(on and window.page is not None),
        "toggle_jobs": window.docks.bottom.setVisible,
        "toggle_history": window.docks.history.setVisible,
        "full_screen": lambda on: window.showFullScreen() if on else window.showNormal(),
        "theme": window.switch_theme,
        "screenshot": lambda: _screenshot(window),
        "palette": lambda: show_palette(window),
        "shortcuts": lambda: show_shortcuts(window),
        "support": window.docks.log_panel.save_bundle,
        "about": lambda: _about(window),
    }
    for name, slot in slots.items():
        table.bind(name, slot)
    table["toggle_case_tree"].setChecked(True)
    # A dock's own close button must not leave the menu behind.
    window.docks.bottom.visibilityChanged.connect(
        lambda _: table["toggle_jobs"].setChecked(not window.docks.bottom.isHidden())
    )
    window.docks.history.visibilityChanged.connect(
        lambda _: table["toggle_history"].setChecked(not window.docks.history.isHidden())
    )


def _close_case(window: MainWindow) -> None:
    window.session.close_case()
    window.show_start()


def _choose_file(window: MainWindow) -> None:
    name, _ = QFileDialog.getOpenFileName(window, "Open file")
    if name:
        window.open_path(Path(name))


def _choose_folder(window: MainWindow) -> None:
    name = QFileDialog.getExistingDirectory(window, "Open folder")
    if name:
        window.open_path(Path(name))


def _step(window: MainWindow, by: int) -> None:
    keys = list(window.stepper.buttons)
    place = keys.index(window.step_key) + by if window.step_key in keys else -1
    if 0 <= place < len(keys):
        window.show_step(keys[place])


def show_palette(window: MainWindow) -> None:
    """The command palette."""
    dialog = CommandPalette(window.actions_table.all(), window)
    window.keep_dialog(dialog)
    dialog.show()


def show_shortcuts(window: MainWindow) -> None:
    """The shortcut sheet."""
    dialog = ShortcutSheet(window.actions_table, window)
    window.keep_dialog(dialog)
    dialog.show()


def _screenshot(window: MainWindow) -> None:
    ask_picture(window.session.tasks, window, window.grab(), "splatomy.png")


def _about(window: MainWindow) -> None:
    box = QMessageBox(window)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setWindowTitle("About Splatomy")
    box.setText(f"Splatomy {splatomy.__version__}\n\n{NOTICE}")
    box.setInformativeText(
        "Splatomy is under the Apache-2.0 licence. This app uses Qt through PyQt6, which is under the "
        "GPL-3.0; the two together are governed by the GPL. 3D views are drawn by VTK (BSD). Model weights, "
        "where you provide some, have licences of their own."
    )
    window.keep_dialog(box)
    box.show()


def ask_recovery(window: MainWindow, folder: Path) -> None:
    """Asks whether changes that were never saved shall be restored."""
    box = QMessageBox(window)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setObjectName("recovery")
    box.setWindowTitle("Recover changes")
    box.setText(f"{folder.stem} has changes that were not saved when the app ended.")
    box.setInformativeText("Restore them, or open the case as it was last saved?")
    restore = box.addButton("Restore", QMessageBox.ButtonRole.AcceptRole)
    last = box.addButton("Open as saved", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)

    def finished(_: int) -> None:
        chosen = box.clickedButton()
        if chosen in (restore, last):
            window.session.open_case(folder, recover=chosen is restore)

    box.finished.connect(finished)
    window.keep_dialog(box)
    box.show()


def ask_source(window: MainWindow, folder: Path, source: Path) -> None:
    """Asks where the input of a case lies now."""
    box = QMessageBox(window)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setWindowTitle("Input not found")
    box.setText(f"The input of {folder.stem} is no longer where it was: {source.name}")
    box.setInformativeText("Show where it lies now; masks and runs are kept.")
    file = box.addButton("Choose file...", QMessageBox.ButtonRole.AcceptRole)
    place = box.addButton("Choose folder...", QMessageBox.ButtonRole.AcceptRole)
    box.addButton(QMessageBox.StandardButton.Cancel)

    def finished(_: int) -> None:
        chosen, name = box.clickedButton(), ""
        if chosen is file:
            name, _filter = QFileDialog.getOpenFileName(window, f"Where is {source.name}?")
        elif chosen is place:
            name = QFileDialog.getExistingDirectory(window, f"Where is {source.name}?")
        if name:
            window.session.open_case(folder, source=Path(name))

    box.finished.connect(finished)
    window.keep_dialog(box)
    box.show()


def ask_unsaved(window: MainWindow, problem: Problem) -> None:
    """Asks whether the app shall close although the case cannot be saved."""
    box = QMessageBox(window)
    box.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    box.setObjectName("unsaved")
    box.setWindowTitle("Not saved")
    box.setText(problem.what)
    box.setInformativeText(f"{problem.why} Keep the app open to mend that, or close it and lose the changes?")
    lose = box.addButton("Close and lose them", QMessageBox.ButtonRole.DestructiveRole)
    keep = box.addButton("Keep open", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(keep)
    box.finished.connect(lambda _: window.close_anyway() if box.clickedButton() is lose else None)
    window.keep_dialog(box)
    box.show()


def ask_running(window: MainWindow) -> bool:
    """Asks what becomes of running jobs when the app closes; False = do not close."""
    box = QMessageBox(window)
    box.setWindowTitle("A reconstruction is running")
    box.setText("A reconstruction is still running.")
    more = "It can go on in the background; the app finds it again at its next start."
    if any("live" in job.plan.fields for job in window.session.queue.active):
        more += " A live session ends with the app and keeps its result."
    waiting = sum(job.state is JobState.QUEUED for job in window.session.queue.jobs)
    if waiting:
        more += f" {waiting} more that {'waits' if waiting == 1 else 'wait'} in the queue will not begin."
    box.setInformativeText(more)
    on = box.addButton("Keep running", QMessageBox.ButtonRole.AcceptRole)
    stop = box.addButton("Stop and keep result", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    if box.clickedButton() is stop:
        for job in window.session.queue.active:
            job.stop()
        return True
    return box.clickedButton() is on
