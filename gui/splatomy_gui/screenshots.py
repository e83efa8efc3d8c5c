"""Pictures of every page with a sample case: ``python -m splatomy_gui.screenshots --out DIR``.

Exit code 1 where a text does not fit, or a control is disabled without a reason.

Sample inputs and their reconstructions are made once, in DIR/cases, and used again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from splatomy_gui.ending import will_end_with

_WAIT_S = 1800
_SETTLE_S = 1.5
_RUNS: dict[str, tuple[str, dict[str, int]]] = {
    "endoscopy": ("dynamic_tissue", {"steps": 400}),
    "angiography": ("dynamic_vessels", {"steps": 1200}),
    "surface": ("pulled_surface", {"splat_steps": 120, "joint_steps": 240, "finish_steps": 200}),
}
"""Method and settings of the run that is shown, by workspace."""

_LOG = logging.getLogger(__name__)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m splatomy_gui.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--scale", type=float, default=1.0, help="device pixels for each pixel")
    parser.add_argument("--theme", choices=["dark", "light"], default="dark")
    parser.add_argument("--size", default="1280x800", help="of the window")
    parser.add_argument("--sample", choices=["demo", "tiny"], default="demo", help="size of the samples")
    parser.add_argument("--workspace", action="append", help="only these; all without it")
    return parser.parse_args()


class Photographer:
    """Drives the app from page to page and takes pictures."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from PyQt6.QtCore import QSize

        from splatomy_gui.app import App

        self.out: Path = arguments.out
        self.sample: str = arguments.sample
        self.suffix = f"-{arguments.theme}" + (f"-{arguments.scale:g}x" if arguments.scale != 1 else "")
        self.app = App(["splatomy"])
        self.app.settings.set("theme", arguments.theme)
        self.app.settings.set("cases_folder", str(self.out / "cases"))
        self.window, self.session = self.app.window, self.app.session
        self.app.start()
        width, _, height = arguments.size.partition("x")
        self.size = QSize(int(width), int(height))
        self.window.resize(self.size)
        self.problems: list[str] = []
        """What does not fit, or is disabled without a reason."""

    def wait(self, ready: Callable[[], bool], most_s: float = _WAIT_S) -> None:
        """Lets the app run until something is so.

        Raises:
            TimeoutError: it never was.
        """
        deadline = time.monotonic() + most_s
        while not ready():
            self.app.qt.processEvents()
            time.sleep(0.01)
            if time.monotonic() > deadline:
                raise TimeoutError("the app did not come to the page to be photographed")

    def settle(self) -> None:
        """Lets drawing and reading end."""
        self.wait(lambda: not self.session.tasks.running)
        start = time.monotonic()
        self.wait(lambda: time.monotonic() - start > _SETTLE_S)

    def shoot(self, name: str) -> None:
        """Takes a picture of the window, dialogs included, and notes what is wrong with it."""
        from splatomy_gui.page_check import page_problems

        self.settle()
        screen = self.window.screen()
        frame = self.window.geometry()
        if screen is None or not self.window.dialogs:
            picture = self.window.grab()
        else:
            whole: Any = 0  # the root window
            picture = screen.grabWindow(whole, frame.x(), frame.y(), frame.width(), frame.height())
        self.problems += [f"{name}: {text}" for text in page_problems(self.window)]
        size = self.window.size()
        if size != self.size:
            self.problems.append(f"{name}: needs {size.width()} x {size.height()}")
        path = self.out / f"{name}{self.suffix}.png"
        picture.save(str(path))
        _LOG.info("picture %s", path.name)

    def take_all(self, wanted: list[str] | None) -> None:
        """Every page of every workspace, then the rest."""
        from splatomy_gui.workspaces import WORKSPACES

        for space in WORKSPACES:
            if wanted is None or space.key in wanted:
                self._take_workspace(space.key, space.samples[0].words[0])
        if wanted is None or "live" in wanted:
            self._take_live()
        self.window.show_start()
        self.shoot("start")
        for name in ("preferences", "jobs"):
            self.window.go(name)
            self.shoot(name)
        self.window.show_start()
        self.window.actions_table["palette"].trigger()
        self.shoot("palette")
        self.window.dialogs[-1].close()
        self.window.actions_table["shortcuts"].trigger()
        self.shoot("shortcuts")
        self.window.dialogs[-1].close()
        self.window.session.inspect(Path("/nowhere/clip.mp4"))
        self.wait(lambda: bool(self.window.dialogs))
        self.shoot("error")
        self.window.dialogs[-1].close()
        self.window.close()
        self.wait(lambda: not self.window.isVisible(), 60)
        self.app.close()

    def _take_workspace(self, key: str, phantom: str) -> None:
        from splatomy_gui.workspaces import Sample

        sample = Sample("sample", (phantom, "--preset", self.sample))
        cases = sorted((self.out / "cases").glob(f"{key.capitalize()}*.splatomy"))
        self.window.show_workspace(key, "load")
        self.shoot(f"{key}-1-load-empty")
        if cases:
            self.session.open_case(cases[0], recover=False)
        else:
            self.window.start_page.make_sample(sample)
        self.wait(lambda: self.session.kind is not None and self.session.kind.value == key)
        self.settle()
        self.window.show_step("load")
        self.shoot(f"{key}-1-load")
        self.window.show_step("masks")
        self.session.clock.show(self.session.clock.count // 2)
        self.shoot(f"{key}-2-masks")
        self.window.show_step("reconstruct")
        self._take_run(key)
        self.window.show_step("inspect")
        self.session.clock.show(self.session.clock.count // 2)
        self.shoot(f"{key}-4-inspect")
        self.window.show_step("export")
        self.shoot(f"{key}-5-export")

    def _take_live(self) -> None:
        """A live session with a mask, a mark and its answers, and after its end."""
        from splatomy_gui.command import run_command

        self.session.close_case()
        self.window.show_workspace("endoscopy", "live")
        self.shoot("live-1-empty")
        page: Any = self.window.page
        clip = self.out / "cases" / "stream"
        if not clip.is_dir():
            words = ("phantom", "stream", "--out", str(clip), "--preset", "small")
            self.session.tasks.start("The stream cannot be made", lambda: run_command(*words))
            self.wait(lambda: not self.session.tasks.running)
        page.source.set_recording(clip)
        page.start()
        self.wait(lambda: page.surface.num_points > 0 and page.status.gauge.median_s is not None)
        corners = [[12.0, 70.0], [60.0, 74.0], [58.0, 110.0], [20.0, 112.0]]
        page.desk.send("Ignore region", {"command": "region", "what": "ignore", "polygon": corners})
        page.desk.send("Mark", {"command": "mark", "name": "Vessel", "pixel": [88.0, 60.0]})
        page.desk.send("Rewind 600 s", {"command": "rewind", "generation": -1})
        self.wait(lambda: page.desk.waiting == 0)
        self.window.actions_table["live_mask"].setChecked(True)
        self.shoot("live-2-running")
        self.window.actions_table["live_mask"].setChecked(False)
        page.job.stop()
        self.wait(lambda: page.job.state.ended)
        self.shoot("live-3-ended")

    def _take_run(self, key: str) -> None:
        from splatomy_gui.plans import plan_run

        finished = [info for info in self.session.runs if info.state == "done"]
        if not finished:
            method, settings = _RUNS[key]
            plan = plan_run(self.session, method, "draft", dict(settings))
            job = self.session.queue.add(plan)
            self.wait(lambda: bool(job.files) or job.state.ended)
            self.window.actions_table["toggle_jobs"].setChecked(True)
            self.shoot(f"{key}-3-reconstruct-running")
            self.window.actions_table["toggle_jobs"].setChecked(False)
            self.wait(lambda: job.state.ended)
            self.wait(lambda: self.session.result is not None)
        else:
            self.session.open_run(finished[-1].path)
            self.wait(lambda: self.session.result is not None)
        self.shoot(f"{key}-3-reconstruct")


def main() -> int:
    """Takes the pictures."""
    arguments = _arguments()
    arguments.out = arguments.out.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ["QT_SCALE_FACTOR"] = f"{arguments.scale:g}"
    # Preferences and the list of recent cases stay the photographer's own.
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        os.environ[name] = str(arguments.out / "home")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    photographer = Photographer(arguments)
    photographer.take_all(arguments.workspace)
    for problem in photographer.problems:
        _LOG.error("%s", problem)
    return 1 if photographer.problems else 0


if __name__ == "__main__":
    will_end_with(main())
