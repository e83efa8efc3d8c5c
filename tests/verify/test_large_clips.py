"""Clips of hostile size through the command line, with the memory that each process needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.verify

if not Path("/proc/self/status").exists():
    pytest.skip("reads the memory from /proc", allow_module_level=True)


def moving(path: Path, count: int, height: int, width: int) -> Path:
    """Tissue that moves sideways, with a grey bar that enters from the left and goes up and down."""
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 1, (height // 16, width // 8)).astype(np.float32)
    shade = cv2.resize(small, (2 * width, height), interpolation=cv2.INTER_CUBIC)[..., None].clip(0, 1)
    wide = ((0.5 + 0.4 * shade) * [190, 80, 70]).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "28"}
        for i in range(count):
            start = (2 * i) % width
            picture = wide[:, start : start + width].copy()
            top = height // 3 + round(height / 8 * np.sin(i / 9))
            picture[top : top + height // 5, : width // 3] = (120, 118, 117)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def memory_of(*words: str | Path) -> int:
    """Most memory of its own (MiB) that a command held; pages of temporary files do not count."""
    code = (
        "import sys, threading, time\nfrom splatomy.cli.main import main\n"
        "most = [0]\n"
        "def watch():\n"
        "    while True:\n"
        "        for line in open('/proc/self/status'):\n"
        "            if line.startswith('RssAnon'): most[0] = max(most[0], int(line.split()[1]) // 1024)\n"
        "        time.sleep(0.05)\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "code = main(sys.argv[1:])\nprint('MEMORY', code, most[0])\n"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, code_, most = done.stdout.strip().splitlines()[-1].split()
    assert code_ == "0", done.stderr[-2000:]
    return int(most)


def test_five_thousand_frames_are_masked_in_bounded_memory(tmp_path: Path) -> None:
    # The codes alone would be 1.2 GB, as float32 4.6 GB.
    clip = moving(tmp_path / "long.mp4", 5000, 256, 320)
    assert memory_of("inspect", clip) < 800
    out = tmp_path / "run"
    words = (
        "--frames",
        "0:5000:100",
        "--bin",
        "2",
        "--preset",
        "draft",
        "--set",
        "steps=20",
        "--camera",
        "fixed",
    )
    assert memory_of("reconstruct", clip, "--out", out, *words) < 1500
    assert len(json.loads((out / "run.json").read_text())["clip"]["frames"]) == 50


def test_4k_is_cut_and_binned_in_bounded_memory(tmp_path: Path) -> None:
    clip = moving(tmp_path / "large.mp4", 24, 2160, 3840)
    out = tmp_path / "run"
    words = ("--crop", "640,200,2560,1760", "--bin", "10", "--preset", "draft", "--set", "steps=20")
    # One whole frame is 24 MB; what is kept of each 0.1 MB.
    assert memory_of("reconstruct", clip, "--out", out, *words, "--camera", "fixed") < 1500
    assert json.loads((out / "run.json").read_text())["clip"]["bin"] == 10
    assert memory_of("inspect", clip) < 1200
