"""Real coronary runs: curves of each, and a rough cloud of one patient's left-coronary views."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from splatomy.capture import Capture
from splatomy.engine import ProductOptions, RunRequest, open_capture, run
from splatomy.errors import InputError
from splatomy.events import Event, Notice, finish
from splatomy.io.options import InputOptions
from splatomy.io.run import RunFolder

pytestmark = pytest.mark.verify

SHARED = Path(__file__).parents[2].parent / "shared"
CORONARY = SHARED / "data" / "coronary-xa"
RUNS = ("Patient_1/Coro_1", "Patient_1/Coro_2", *(f"Patient_4/Coro_{i}" for i in range(1, 7)))
LEFT = (0, 1, 2, 3)
# The largest Dice between the vessels found in two different left views, laid over each other as they are:
# 0.09 to 0.15, measured over all pairs.
_BY_CHANCE = 0.15


@pytest.fixture(autouse=True)
def _data() -> None:
    if not CORONARY.is_dir():
        pytest.fail(f"{CORONARY} is missing: make verify needs the real data in ../shared")


def reconstruct(source: Path, out: Path, **options: object) -> tuple[RunFolder, list[Event]]:
    """A quick run and all its events."""
    request = RunRequest(
        source,
        out,
        preset="draft",
        settings={"steps": 400, "num_start": 6000},
        options=InputOptions(bin=2, **options),  # type: ignore[arg-type]
        products=ProductOptions(map_times=6, sequence_times=4),
    )
    task, events = run(request), []
    while True:
        try:
            events.append(next(task))
        except StopIteration as stop:
            return stop.value, events


@pytest.mark.parametrize("name", RUNS)
def test_contrast_rises_in_every_run(name: str) -> None:
    capture: Capture = finish(open_capture(CORONARY / name, InputOptions(bin=2)))
    assert any("before the contrast arrives, serve as the mask" in problem for problem in capture.problems)
    assert any("one viewing direction" in problem for problem in capture.problems)
    title, times_s, values = capture.details["image_curves"][0]
    curve = np.array(values)
    assert title and len(times_s) == len(curve) == len(capture)
    # Before the contrast there is none; later it clearly passes the grain of the first frame.
    assert abs(curve[0]) < 0.3 * curve.max()
    assert curve.max() > 0.05


def test_one_run_goes_through_with_its_curves(tmp_path: Path) -> None:
    folder, events = reconstruct(CORONARY / RUNS[1], tmp_path / "run")
    assert "one-direction" in {e.code for e in events if isinstance(e, Notice)}
    report = (folder.path / "report.html").read_text()
    assert "Measured time-attenuation" in report and "one viewing direction" in report
    metrics = json.loads((folder.path / "metrics.json").read_text())
    # The heart moves and the cloud does not, so it can lie on the vessels of one frame only in part.
    assert metrics["dice_view0"] > _BY_CHANCE


def test_four_left_views_give_a_rough_cloud(tmp_path: Path) -> None:
    folder, events = reconstruct(CORONARY / "Patient_4", tmp_path / "run", view=LEFT, target=Path("masks"))
    notices = {e.code: e.text for e in events if isinstance(e, Notice)}
    assert "heart moves" in notices["rough-views"] and "not taken at the same time" in notices["rough-views"]
    metrics = json.loads((folder.path / "metrics.json").read_text())
    print({name: round(value, 3) for name, value in metrics.items()})
    for view in LEFT:
        for kind in ("dice", "precision", "recall"):
            assert 0 <= metrics[f"{kind}_view{view}"] <= 1 and 0 <= metrics[f"{kind}_view{view}_given"] <= 1
    # Rough, but plainly the same vessels in most views.
    assert np.median([metrics[f"dice_view{view}"] for view in LEFT]) > 2 * _BY_CHANCE
    assert "reprojected into view 3" in (folder.path / "report.html").read_text()


def test_wrong_views_get_a_sentence() -> None:
    with pytest.raises(InputError, match="expected 0 to 5"):
        finish(open_capture(CORONARY / "Patient_4", InputOptions(view=(0, 9))))
