"""How quick the desktop app is: ``python tests/benchmarks/bench_gui.py [--frames N] [--only PART]``.

start: from the start of the process to the first page on show. paint: a stroke on a 1920x1080 frame, from
each move of the pointer until the view has painted it, and from letting go until the mask is changed and
painted. scrub: from asking for a frame until the view has painted its picture and mask. live: from a written
snapshot of a live session until its points are uploaded and drawn: the first one, and those in which a fifth
of the tissue has moved since the one before. stalls: silences of the GUI thread of over 50 ms while all this
went on, by the app's own watchdog. Needs a display, or Xvfb. Prints the figures and writes
resources/benchmarks/gui.json, in which parts that were not chosen keep theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

OUT = Path(__file__).parents[2] / "resources" / "benchmarks" / "gui.json"
STARTS = 3
SIZES_PX = (24, 100, 200)
MOVES = 120
LATEST_S = 1.0
LOW, HIGH = (640, 512), (1920, 1080)
LIVE_POINTS, SNAPSHOTS = (40_000, 150_000), 20
FIRST_PAGE = """
import sys, time
from splatomy_gui.app import App
app = App(["splatomy"])
app.start()
window = app.window
while not (window.isVisible() and window.windowHandle().isExposed()):
    app.qt.processEvents()
app.qt.processEvents()
print(time.time() - float(sys.argv[1]))
sys.stdout.flush()
import os
os._exit(0)
"""


def on_a_screen(home: Path) -> subprocess.Popen[bytes] | None:
    """A display and a home of its own; the display's process if one had to be started."""
    os.environ.update(HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_DATA_HOME=str(home))
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    if os.environ.get("DISPLAY"):
        return None
    program = shutil.which("Xvfb")
    if program is None:
        raise SystemExit("There is no display and no Xvfb: install Xvfb, or set DISPLAY.")
    read, write = os.pipe()
    words = [program, "-displayfd", str(write), "-screen", "0", "1600x1200x24", "-nolisten", "tcp"]
    server = subprocess.Popen(words, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as told:
        os.environ["DISPLAY"] = f":{told.readline().strip()}"
    return server


def make_clip(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Frames of a moving red texture with a grey bar before it."""
    folder.mkdir(parents=True)
    width, height = size
    rng = np.random.default_rng(0)
    small = rng.normal(0, 1, (height // 16 + 2, width // 16 + 2, 1)).astype(np.float32)
    texture = cv2.resize(small, (width + 64, height + 64), interpolation=cv2.INTER_CUBIC)[..., None]
    red = np.clip(np.array([60, 70, 170]) + 30 * texture, 0, 255).astype(np.uint8)
    for number in range(count):
        shift = round(16 + 16 * np.sin(number / 20))
        frame = red[shift : shift + height, shift : shift + width].copy()
        end = (width // 2 + round(width / 5 * np.sin(number / 15)), height // 2)
        cv2.line(frame, (0, height // 8), end, (150, 150, 150), height // 12)
        cv2.imwrite(str(folder / f"{number:06d}.png"), frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return folder


def paint_counter(widget: Any) -> Any:
    """Counts in ``count`` how often a widget is painted."""
    from PyQt6.QtCore import QEvent, QObject

    class Counter(QObject):
        count = 0

        def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
            if event is not None and event.type() == QEvent.Type.Paint:
                self.count += 1
            return False

    counter = Counter(widget)
    widget.installEventFilter(counter)
    return counter


class Driver:
    """The app with one clip on the mask page."""

    def __init__(self, clip: Path, case: Path) -> None:
        from splatomy.io.options import InputOptions
        from splatomy_gui.app import App

        self.app = App(["splatomy"])
        self.app.start()
        self.window, self.session = self.app.window, self.app.session
        self.window.resize(1280, 800)
        self.session.open_input(clip, InputOptions(), case)
        self.wait(lambda: self.session.case is not None and self.window.page is not None)
        self.page: Any = self.window.page
        self.wait(lambda: self.page.ready and not self.session.tasks.running)
        self.paints = paint_counter(self.page.view.viewport())
        self.settle()

    def timed(self, act: Callable[[], Any]) -> tuple[float, float]:
        """Seconds from doing something until the view has been painted after it: passed, and computed."""
        before, start, busy = self.paints.count, time.perf_counter(), time.thread_time()
        act()
        while self.paints.count == before and time.perf_counter() - start < LATEST_S:
            self.app.qt.processEvents()
        return time.perf_counter() - start, time.thread_time() - busy

    def wait(self, ready: Callable[[], bool]) -> None:
        while not ready():
            self.app.qt.processEvents()
            time.sleep(0.002)

    def settle(self) -> None:
        start = time.monotonic()
        self.wait(lambda: time.monotonic() - start > 1.5 and not self.session.tasks.running)
        self.app.watchdog.stalls.clear()

    def stalls(self) -> dict[str, Any]:
        """Silences since ``settle``."""
        found = list(self.app.watchdog.stalls)
        return {
            "stalls_over_50_ms": len(found),
            "longest_stall_ms": round(1000 * max((s.duration_s for s in found), default=0.0)),
        }

    def close(self) -> None:
        self.session.save()
        self.wait(lambda: not self.session.tasks.running)
        self.window.close()
        self.app.close()


def figures(times_s: list[tuple[float, float]], limit_ms: float) -> dict[str, Any]:
    """Median, 95 % and worst in ms, and the share within a limit; computed: without waiting for a core."""
    found: dict[str, Any] = {}
    for name, values in zip(("passed", "computed"), 1000 * np.array(times_s).T, strict=True):
        found[name] = {
            "median_ms": round(float(np.median(values)), 2),
            "p95_ms": round(float(np.percentile(values, 95)), 2),
            "worst_ms": round(float(values.max()), 2),
            f"share_within_{limit_ms:g}_ms": round(float((values <= limit_ms).mean()), 3),
        }
    return found


def stroke(driver: Driver, size_px: int) -> dict[str, Any]:
    """One stroke in a wide curve over the frame; the pointer moves 10 to 30 px of the frame at a time."""
    from PyQt6.QtCore import QEvent, QPoint, QPointF, Qt
    from PyQt6.QtGui import QMouseEvent

    page, qt = driver.page, driver.app.qt
    page.options.brush_size.setValue(size_px)
    viewport = page.view.viewport()
    turn = np.linspace(0, 2 * np.pi, MOVES)
    frame = np.stack([960 + 700 * np.sin(turn), 540 + 350 * np.sin(2 * turn)], -1)
    places = [page.view.mapFromScene(QPointF(x, y)) for x, y in frame]

    def send(kind: QEvent.Type, place: QPoint, held: Qt.MouseButton) -> tuple[float, float]:
        button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
        on_screen = QPointF(viewport.mapToGlobal(place))
        event = QMouseEvent(kind, QPointF(place), on_screen, button, held, Qt.KeyboardModifier.NoModifier)
        return driver.timed(lambda: qt.sendEvent(viewport, event))

    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    send(QEvent.Type.MouseButtonPress, places[0], left)
    times = [send(QEvent.Type.MouseMove, place, left) for place in places]
    release = send(QEvent.Type.MouseButtonRelease, places[-1], none)
    return {"brush_px": size_px, **figures(times, 16), "release_ms": [round(1000 * t, 1) for t in release]}


def paint(folder: Path, _: int) -> dict[str, Any]:
    """Strokes on a 1080p frame with brushes of several sizes."""
    driver = Driver(make_clip(folder / "paint", 6, HIGH), folder / "paint.splatomy")
    strokes = [stroke(driver, size) for size in SIZES_PX for _ in range(2)]
    stalls = driver.stalls()
    driver.close()
    return {"frame_px": list(HIGH), "moves": MOVES, "strokes": strokes[1::2], **stalls}


def scrubbed(driver: Driver, order: list[int]) -> list[tuple[float, float]]:
    """Seconds for each frame, from asking for it to having painted it."""
    show = driver.session.clock.show
    return [driver.timed(partial(show, frame)) for frame in order if frame != driver.session.clock.frame]


def scrub(folder: Path, count: int) -> dict[str, Any]:
    """All frames of a long clip in order, then at random; then those of a 1080p clip."""
    found: dict[str, Any] = {}
    rng = np.random.default_rng(0)
    for name, frames, size in (("long clip", count, LOW), ("1080p clip", 12, HIGH)):
        driver = Driver(make_clip(folder / name, frames, size), folder / f"{name}.splatomy")
        order = [*range(1, frames), *rng.permutation(frames).tolist()]
        found[name] = {
            "frames": frames,
            "frame_px": list(size),
            **figures(scrubbed(driver, order), 50),
            **driver.stalls(),
        }
        driver.close()
    return found


def start(folder: Path, _: int) -> dict[str, Any]:
    """Processes that show the first page and end."""
    times = []
    for _number in range(STARTS):
        words = [sys.executable, "-c", FIRST_PAGE, str(time.time())]
        times.append(float(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    return {"first_page_s": [round(t, 2) for t in times], "best_s": round(min(times), 2)}


def sheet(points: int) -> dict[str, Any]:
    """Surfels of a bent sheet, 60 mm wide and 60 mm away."""
    side = round(np.sqrt(points))
    x, y = (a.ravel() for a in np.meshgrid(*[np.linspace(-30, 30, side, dtype=np.float32)] * 2))
    count, rng = len(x), np.random.default_rng(0)
    return {
        "means_mm": np.stack([x, y, 60 + 5 * np.sin(x / 9) * np.cos(y / 7)], 1).astype(np.float32),
        "quats_wxyz": np.tile(np.float32([1, 0, 0, 0]), (count, 1)),
        "log_scales": np.full((count, 2), np.log(60 / side), np.float32),
        "opacity_logit": np.full(count, 3, np.float32),
        "sh": rng.normal(0, 0.5, (count, 1, 3)).astype(np.float32),
        "evidence": np.ones(count, np.float32),
        "seen_s": np.zeros(count, np.float32),
    }


class LiveDriver:
    """The app with a live surface of so many points in a window of its own."""

    def __init__(self, folder: Path, points: int) -> None:
        from splatomy.engine.live.publishing import Publisher
        from splatomy.io.run import RunFolder
        from splatomy_gui.app import App
        from splatomy_gui.panels.live.surface import LiveSurface
        from splatomy_gui.views.scene_view import SceneView

        self.app = App(["splatomy"])
        self.app.start()
        self.view = SceneView()
        self.view.resize(*LOW)
        self.view.show()
        self.surface = LiveSurface(self.app.session, self.view)
        folder.mkdir()
        self.publisher = Publisher(RunFolder(folder))
        self.surfels, self.number = sheet(points), 0
        self.drawn = 0
        self.view.plotter.render_window.AddObserver("EndEvent", lambda *_: self._count())

    def _count(self) -> None:
        self.drawn += 1

    def publish(self) -> Path:
        """Writes a snapshot; since the one before a fifth of the tissue has moved."""
        from splatomy.engine.live.publishing import Picture, cell_for, displayed
        from splatomy.geometry.cameras import Cameras
        from splatomy.methods.live_scene.model import LiveScene

        rows = slice(0, len(self.surfels["means_mm"]) // 5)
        self.surfels["means_mm"][rows, 2] += 0.5
        self.number += 1
        k, pose = np.array([[576.0, 0, 320], [0, 576, 256], [0, 0, 1]]), np.eye(4)
        now = Cameras(k[None], pose[None], *LOW)
        times = np.zeros(1)
        spacing = 60 / np.sqrt(len(self.surfels["means_mm"]))
        scene = LiveScene(self.surfels, {}, now, times, now, 0.0, self.number, 1.0, 0.1, spacing, True, {})
        values = {"time_s": 0.0, "metric": True, "size": LOW, "generation": self.number}
        values |= {"intrinsics": k.tolist(), "camera_from_world": pose.tolist(), "marks": []}
        frame = np.zeros((*LOW[::-1], 3), np.uint8)
        made = Picture(
            scene, values, displayed(self.surfels), 0.1, cell_for(spacing), frame, frame, time.monotonic()
        )
        self.publisher.submit(lambda: made)
        while not (written := self.publisher.finished()):
            time.sleep(0.002)
        return Path(written[-1].files["points"])

    def shown(self) -> tuple[float, float]:
        """Seconds from a written snapshot to all of it drawn: passed, and computed on the GUI thread."""
        file = self.publish()
        start, busy = time.perf_counter(), time.thread_time()
        self.surface.take(file)
        while not (self.surface.settled and self.surface.record.get("generation") == self.number):
            self.app.qt.processEvents()
        before = self.drawn
        self.view.render()
        while self.drawn == before:
            self.app.qt.processEvents()
        return time.perf_counter() - start, time.thread_time() - busy

    def redrawn(self) -> tuple[float, float]:
        """The same of a picture in which nothing is new."""
        start, busy, before = time.perf_counter(), time.thread_time(), self.drawn
        self.view.render()
        while self.drawn == before:
            self.app.qt.processEvents()
        return time.perf_counter() - start, time.thread_time() - busy

    def close(self) -> None:
        self.publisher.close()
        self.view.close()
        self.app.window.close()
        self.app.close()


def live(folder: Path, _: int) -> dict[str, Any]:
    """Snapshots of live sessions of several sizes."""
    found: dict[str, Any] = {}
    for points in LIVE_POINTS:
        driver = LiveDriver(folder / f"live{points}", points)
        first = driver.shown()
        driver.app.watchdog.stalls.clear()
        later = figures([driver.shown() for _ in range(SNAPSHOTS)], 500)
        stalls = [round(1000 * s.duration_s) for s in driver.app.watchdog.stalls]
        drawing = figures([driver.redrawn() for _ in range(SNAPSHOTS)], 500)
        driver.close()
        found[f"{points} points"] = {
            "first_ms": round(1000 * first[0]),
            "later": later,
            "drawing_alone": drawing,
            "stalls_over_50_ms": len(stalls),
            "longest_stall_ms": max(stalls, default=0),
        }
    return found


PARTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "start": start,
    "paint": paint,
    "scrub": scrub,
    "live": live,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=500, help="of the long clip")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--shared", action="store_true", help="note that other programs were running")
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(OUT.read_text()) if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        server = on_a_screen(folder / "home")
        try:
            for name in arguments.only or PARTS:
                load = round(os.getloadavg()[0], 1)
                row = PARTS[name](folder, arguments.frames)
                kept[name] = {**row, "load": load, "shared_machine": arguments.shared}
                print(name, json.dumps(kept[name], indent=1), flush=True)
        finally:
            if server is not None:
                server.terminate()
    facts = {"machine": platform.machine(), "cores": os.cpu_count()}
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({**facts, **{n: v for n, v in kept.items() if n in PARTS}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
