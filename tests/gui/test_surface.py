"""The surface workspace: views of an object, their masks, and the still surface of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import LONG_MS, open_by_drop
from masking import drag
from PyQt6.QtCore import Qt

from splatomy.cli.phantom.object import written_object
from splatomy.events import finish
from splatomy_gui.inputs import Kind
from splatomy_gui.plans import plan_run
from splatomy_gui.worker import JobState

LEFT, CONTROL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier
RUN_MS = 300_000


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest image set with cameras, object masks and depth."""
    folder = tmp_path_factory.mktemp("object") / "object"
    finish(written_object(folder, "tiny", 0, None))
    return folder


def test_views_are_opened_and_masked(window: Any, qtbot: Any, views: Path) -> None:
    open_by_drop(window, qtbot, views)
    session = window.session
    assert session.kind is Kind.SURFACE and window.workspace_key == "surface" and session.clock.count == 8
    qtbot.waitUntil(lambda: window.step_key == "masks" and window.page.ready, timeout=LONG_MS)
    page = window.page
    drag(page, qtbot, [(20, 20), (30, 20)])
    assert session.review.hidden(0)[20, 25]
    for name in ("mask_propose", "mask_propagate", "mask_interpolate"):
        assert "draw the mask of each" in window.actions_table[name].toolTip()
    qtbot.mouseClick(window.stepper.buttons["reconstruct"], LEFT)
    assert {method.name for method in window.page.methods} == {"completed_object", "pulled_surface"}
    assert "GiB" in window.page.estimate.text()
    plan = plan_run(session, "pulled_surface", "draft", {})
    assert Path(plan.fields["input"]) == session.folder


def test_other_workspaces_offer_their_own_methods(window: Any, qtbot: Any, tiny_clip: Path) -> None:
    open_by_drop(window, qtbot, tiny_clip)
    qtbot.mouseClick(window.stepper.buttons["reconstruct"], LEFT)
    assert [method.name for method in window.page.methods] == ["dynamic_tissue"]


@pytest.mark.verify
def test_sample_object_to_exported_mesh(window: Any, qtbot: Any, views: Path) -> None:
    open_by_drop(window, qtbot, views)
    session = window.session
    qtbot.mouseClick(window.stepper.buttons["reconstruct"], LEFT)
    page = window.page
    page.method.setCurrentIndex([m.name for m in page.methods].index("pulled_surface"))
    page.preset.setCurrentIndex(page.preset.findData("draft"))
    qtbot.mouseClick(page.advanced, LEFT)
    for name in ("splat_steps", "joint_steps", "finish_steps"):
        field = page._form.field(name)
        field.selectAll()
        qtbot.keyClicks(field, "60")
    qtbot.mouseClick(page.start_button, LEFT)
    qtbot.waitUntil(lambda: bool(session.queue.jobs), timeout=LONG_MS)
    job = session.queue.jobs[-1]
    qtbot.waitUntil(lambda: job.state.ended, timeout=RUN_MS)
    assert job.state is JobState.DONE, job.problem
    qtbot.waitUntil(lambda: session.result is not None, timeout=LONG_MS)
    qtbot.mouseClick(page.inspect_button, LEFT)
    # The step is shown once the run is read.
    qtbot.waitUntil(lambda: window.step_key == "inspect", timeout=LONG_MS)
    inspect = window.page
    qtbot.waitUntil(lambda: getattr(inspect, "content", None) is not None, timeout=LONG_MS)
    surface = inspect.content.surface
    assert len(surface.times_s) == 1 and len(surface.mesh.faces) > 100
    session.clock.show(5)
    np.testing.assert_array_equal(surface.at(session.clock.time_s), surface.vertices[0])
    qtbot.mouseClick(window.stepper.buttons["export"], LEFT)
    assert [row[0].title for row in window.page.rows] == ["Surface", "Gaussians", "Turning film"]
    qtbot.mouseClick(window.page.rows[0][2], LEFT)
    qtbot.waitUntil(lambda: window.page.written.count() == 1, timeout=RUN_MS)
    assert Path(window.page.written.item(0).text()).read_bytes().startswith(b"ply")
