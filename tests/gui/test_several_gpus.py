"""The number of GPUs on the Reconstruct page, and the run of several processes that comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from driving import LONG_MS, open_by_drop
from PyQt6.QtCore import Qt

from splatomy_gui.worker import JobState

TWO_GPUS = {"cuda_devices": [{"device": "cuda:0"}, {"device": "cuda:1"}]}


def expert_page(window: Any, qtbot: Any, case: Path) -> Any:
    """The Reconstruct page of a run with its expert part, once the engine told what the machine has."""
    open_by_drop(window, qtbot, case)
    qtbot.mouseClick(window.stepper.buttons["reconstruct"], Qt.MouseButton.LeftButton)
    page = window.page
    page.preset.setCurrentIndex(page.preset.findData("draft"))
    qtbot.mouseClick(page.advanced, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: window.session.machine.known, timeout=LONG_MS)
    return page


def test_the_field_says_why_it_is_not_available(window: Any, qtbot: Any, tiny_case: Path) -> None:
    page = expert_page(window, qtbot, tiny_case)
    machine, count = window.session.machine, page.gpus.count
    machine.take({"cuda_devices": []})
    assert not count.isEnabled() and page.gpus.note.text() == "This machine has no GPU."
    machine.take({"cuda_devices": TWO_GPUS["cuda_devices"][:1]})
    assert not count.isEnabled() and "one GPU" in count.toolTip()
    machine.take(TWO_GPUS)
    assert count.isEnabled() and count.maximum() == 2 and page.gpus.note.isHidden()
    # A person asks for two, and takes it back.
    qtbot.mouseClick(count, Qt.MouseButton.LeftButton)
    qtbot.keyClick(count, Qt.Key.Key_Up)
    qtbot.keyClick(count, Qt.Key.Key_Return)
    assert page.gpus.replicas == 2 and "2 frames" in page.gpus.note.text()
    window.session.undo.undo()
    assert page.gpus.replicas == 1 and page.gpus.note.isHidden()
    window.session.settings.set("device", "cuda:1")
    assert not count.isEnabled() and "one GPU" in page.gpus.note.text()
    window.session.settings.set("device", "cpu")
    assert "CPU" in page.gpus.note.text()
    window.session.settings.set("device", "auto")
    page.method.setCurrentIndex(next(i for i, m in enumerate(page.methods) if m.follow is None))
    assert not count.isEnabled() and page.gpus.note.text() == "This method trains on one GPU."


@pytest.mark.verify
def test_two_processes_train_together(window: Any, qtbot: Any, tiny_case: Path) -> None:
    """On a machine without a GPU the engine lets them share its processors."""
    page = expert_page(window, qtbot, tiny_case)
    window.session.machine.take(TWO_GPUS)
    page.gpus.count.setValue(2)
    for name, text in (("steps", "20"), ("num_start", "400")):
        field = page._form.field(name)
        field.selectAll()
        qtbot.keyClicks(field, text)
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: bool(window.session.queue.jobs), timeout=LONG_MS)
    job = window.session.queue.jobs[-1]
    qtbot.waitUntil(lambda: job.state.ended, timeout=240_000)
    assert job.state is JobState.DONE, job.problem
    record = json.loads((job.run / "run.json").read_text())
    assert record["replicas"] == 2 and record["config"]["views_per_step"] == 2
    assert "reduced_mb" in job.history
