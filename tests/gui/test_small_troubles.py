"""Daily trouble: other languages, double clicks, folders that move, long names, names of patients."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, drop, open_by_drop
from PyQt6.QtCore import QLocale, Qt
from PyQt6.QtGui import QPixmap
from PyQt6.QtWidgets import QFileDialog, QMessageBox

from splatomy.review import FrameReview, ReviewState
from splatomy_gui.forms import NumberEdit
from splatomy_gui.page_check import page_problems
from splatomy_gui.panels.log_panel import bundle_parts
from splatomy_gui.plans import plan_run
from splatomy_gui.undo import FrameReviewCommand
from splatomy_gui.widgets.basics import NameLabel, ask_picture
from splatomy_gui.widgets.fields import DecimalBox
from splatomy_gui.worker import Job

LEFT = Qt.MouseButton.LeftButton


@pytest.mark.parametrize("language", ["de_DE", "en_US", "fr_FR"])
def test_point_and_comma_begin_the_decimals(qtbot: Any, home: Path, language: str) -> None:
    """Qt's own box makes 25 mm of 2.5 mm in German, and of 2,5 mm in English."""
    before = QLocale()
    QLocale.setDefault(QLocale(language))
    try:
        for typed in ("2.5", "2,5"):
            box = DecimalBox()
            box.setRange(0, 10_000)
            box.setDecimals(3)
            box.setSuffix(" mm")
            qtbot.addWidget(box)
            box.selectAll()
            qtbot.keyClicks(box, typed)
            box.interpretText()
            assert box.value() == 2.5 and box.text() == "2.500 mm"
    finally:
        QLocale.setDefault(before)
    field = NumberEdit(False, (0.0, 10.0), False)
    qtbot.addWidget(field)
    field.setText("2,5")
    assert field.problem is None and field.value() == 2.5


def test_two_clicks_open_a_case_once_and_runs_lie_apart(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    session, problems = window.session, []
    folder = session.folder
    session.close_case()
    window.show_start()
    qtbot.waitUntil(lambda: folder in window.start_page.resume_buttons, timeout=LONG_MS)
    session.tasks.failed.connect(problems.append)
    button = window.start_page.resume_buttons[folder]
    qtbot.mouseClick(button, LEFT)
    qtbot.mouseClick(button, LEFT)
    assert window.start_page.sample_row.isVisible()
    qtbot.waitUntil(lambda: session.case is not None and not session.tasks.running, timeout=LONG_MS)
    assert problems == [] and session.folder == folder

    first = plan_run(session, "dynamic_tissue", "draft", {})
    session.queue.jobs.append(Job(first))
    assert plan_run(session, "dynamic_tissue", "draft", {}).run != first.run


def changed(session: Any) -> None:
    """Another mask of the first frame, as a person would draw it."""
    mask = ~session.review.hidden(0)
    after = FrameReview(add=mask, state=ReviewState.EDITED)
    session.push(FrameReviewCommand(session, 0, after, "draw"))
    assert session.dirty


def test_cases_that_are_moved_while_they_are_open(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    _a_case_that_was_moved_is_saved_whole(window, qtbot)
    _what_cannot_be_saved_is_asked_about_before_the_app_closes(window, qtbot)


def _a_case_that_was_moved_is_saved_whole(window: Any, qtbot: Any) -> None:
    from splatomy.io.case import open_case

    session = window.session
    changed(session)
    masks = [session.review.hidden(frame) for frame in range(len(session.review))]
    shutil.move(str(session.folder), str(session.folder.with_name("elsewhere")))
    window.actions_table["save"].trigger()
    qtbot.waitUntil(lambda: not session.dirty, timeout=LONG_MS)
    kept = open_case(session.folder).review
    assert all(np.array_equal(kept.hidden(n), mask) for n, mask in enumerate(masks))


def _what_cannot_be_saved_is_asked_about_before_the_app_closes(window: Any, qtbot: Any) -> None:
    session = window.session
    changed(session)
    folder, aside = session.folder, session.folder.with_name("aside")
    folder.rename(aside)
    # No folder can be made in its place.
    folder.write_text("")
    with qtbot.waitSignal(session.tasks.failed, timeout=LONG_MS):
        window.show_step("reconstruct")
        qtbot.mouseClick(window.page.start_button, LEFT)
    window.close()
    qtbot.waitUntil(lambda: any(d.objectName() == "unsaved" for d in window.dialogs), timeout=LONG_MS)
    box = next(d for d in window.dialogs if d.objectName() == "unsaved")
    assert isinstance(box, QMessageBox) and window.isVisible()
    qtbot.mouseClick(box.defaultButton(), LEFT)
    assert window.isVisible() and session.dirty
    # Put back, it is saved; neither does the app close by itself, nor begins the run of then.
    folder.unlink()
    aside.rename(folder)
    window.actions_table["save"].trigger()
    qtbot.waitUntil(lambda: not session.dirty, timeout=LONG_MS)
    assert window.isVisible() and session.queue.jobs == []


def test_long_names_do_not_widen_the_pages(window: Any, qtbot: Any, tiny_clip: Path, tmp_path: Path) -> None:
    clip = tmp_path / ("Müller, Jürgen - Cholezystektomie " * 6).strip()
    shutil.copytree(tiny_clip, clip)
    window.resize(1280, 800)
    drop(window, clip)
    qtbot.waitUntil(lambda: window.page is not None and window.page.inspection is not None, timeout=LONG_MS)
    qtbot.waitUntil(lambda: not window.session.tasks.running, timeout=LONG_MS)
    qtbot.waitUntil(lambda: page_problems(window) == [], timeout=LONG_MS)
    assert window.width() == 1280
    name = window.page.name
    assert isinstance(name, NameLabel) and name.text() == clip.name == name.toolTip()
    # The names of what was opened may be a patient's: they are not sent to anybody.
    session = window.session
    kept = bundle_parts(window.log, session.settings, window.watchdog, session.names)
    assert "Müller" in "\n".join(line for _, line in tuple(window.log.lines))
    assert "Müller" not in "".join(kept.values()) and "mask_decoder" not in kept["settings.json"]


def test_small_windows_and_pictures_that_cannot_be_written(
    window: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tmp_path / "nowhere" / "view"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(chosen), ""))
    tasks = window.session.tasks
    picture = QPixmap(8, 8)
    picture.fill(Qt.GlobalColor.red)
    with qtbot.waitSignal(tasks.failed, timeout=LONG_MS):
        ask_picture(tasks, window, picture, "view.png")
    chosen.parent.mkdir()
    ask_picture(tasks, window, picture, "view.png")
    qtbot.waitUntil(lambda: not tasks.running, timeout=LONG_MS)
    assert chosen.with_suffix(".png").is_file()
    window.resize(1024, 700)
    for place in ("endoscopy", "angiography", "surface", "jobs", "preferences", "start"):
        window.go(place)
        qtbot.wait(20)
        assert (window.width(), window.height()) == (1024, 700), place
