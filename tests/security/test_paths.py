"""No name in a file leads out of its folder, and nothing comes in from elsewhere."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import fuzz_seeds as seeds
import numpy as np
import pytest

from splatomy.batch.cases import read_cases
from splatomy.errors import InputError
from splatomy.io.case import RECORD, open_case, save_case
from splatomy.io.image_sets import image_set_source
from splatomy.io.listed import listed_file
from splatomy.io.live_sources import open_live_source
from splatomy.io.mesh import read_mesh
from splatomy.io.options import InputOptions
from splatomy.io.video import is_video, video_source
from splatomy.io.volume import read_volume
from splatomy.jobs.commands import Inbox, command_folder, watch_folder

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and rights of POSIX")
LEADING_OUT = ("../secret.png", "/etc/hostname", "a/../../secret.png", "..", "link.png", "folder/secret.png")


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """The files that Python code opens meanwhile."""
    names: list[str] = []
    on = [True]

    def watch(event: str, args: tuple[object, ...]) -> None:
        if on[0] and event == "open" and isinstance(args[0], str):
            names.append(args[0])

    sys.addaudithook(watch)
    try:
        yield names
    finally:
        on[0] = False


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside a secret picture, with links to it."""
    put(tmp_path, {"secret.png": seeds.picture(), "inside/own.png": seeds.picture(1)})
    if sys.platform != "win32":
        (tmp_path / "inside" / "link.png").symlink_to(tmp_path / "secret.png")
        (tmp_path / "inside" / "folder").symlink_to(tmp_path)
        (tmp_path / "inside" / "circle").symlink_to(tmp_path / "inside" / "circle")
    return tmp_path / "inside"


@pytest.mark.parametrize("name", [*LEADING_OUT, "circle", "a" * 5000, "a\0b", "", "~/x", "absent.png"])
def test_names_in_lists_stay_inside(name: str, outside: Path) -> None:
    assert listed_file(outside, name) is None


def test_a_file_beside_its_list_is_found(outside: Path) -> None:
    assert listed_file(outside, "own.png") == (outside / "own.png").resolve()
    assert listed_file(outside, "./x/../own.png") == (outside / "own.png").resolve()


@pytest.mark.parametrize("name", LEADING_OUT)
@pytest.mark.parametrize("layout", ["nerf", "colmap text", "colmap binary", "tum"])
def test_image_sets_read_no_picture_outside(layout: str, name: str, outside: Path) -> None:
    files, old = {
        "nerf": (seeds.nerf_folders()[1], b"images/v1"),
        "colmap text": (seeds.colmap_models(".txt")[0], b"v1.png"),
        "colmap binary": (seeds.colmap_models(".bin")[0], b"v1.png"),
        "tum": (seeds.rgbd_folders()[0], b"rgb/1.png"),
    }[layout]
    files = {
        n: d.replace(old, name.encode()) if n.endswith((".json", ".txt", ".bin")) else d
        for n, d in files.items()
    }
    put(outside, files)
    with opened_files() as names:
        try:
            pictures = [view.picture for view in image_set_source(outside, InputOptions()).views]
        except InputError as error:
            pictures = []
            assert str(error).isprintable()
    assert not any("secret" in str(p.resolve()) for p in pictures) and len(pictures) < 3
    assert not any("secret" in name for name in names)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("v.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
                   b"data file: ../secret\n\n"),
        ("v.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
                   b"datafile: /etc/hostname\n\n"),
        ("v.mha", b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
                  b"ElementDataFile = ../secret\n"),
        ("v.mha", b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
                  b"ElementDataFile = LIST\n../secret\n../secret\n"),
    ],
)  # fmt: skip
def test_volumes_name_no_other_file(name: str, data: bytes, tmp_path: Path) -> None:
    put(tmp_path, {"secret": b"12345678", f"in/{name}": data})
    with pytest.raises(InputError, match="holds its own pixels"):
        read_volume(tmp_path / "in" / name)


def test_meshes_name_no_other_file(tmp_path: Path) -> None:
    text = b"mtllib ../secret.mtl\nusemtl x\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
    secret = b"newmtl x\nmap_Kd secret.png\n"
    put(tmp_path, {"secret.mtl": secret, "secret.png": seeds.picture(), "in/mesh.obj": text})
    with opened_files() as names:
        read_mesh(tmp_path / "in" / "mesh.obj")
    assert any("mesh.obj" in n for n in names) and not any("secret" in n for n in names)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile clip.mp4\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
    ],
    ids=["play list", "concatenation", "session description"],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.bin"])
def test_a_list_of_videos_is_no_video(text: str, name: str, tmp_path: Path) -> None:
    put(tmp_path, {"clip.mp4": seeds.video_files()[0]["clip.mp4"], name: text.encode()})
    assert video_source(tmp_path / "clip.mp4").count == 4
    assert is_video(tmp_path / name) == name.endswith(".mp4")
    with pytest.raises(InputError, match="cannot be read as a video"):
        video_source(tmp_path / name)


@posix
@pytest.mark.parametrize("where", ["masks", "masks/auto", "masks/add", "labels"])
def test_linked_folders_of_a_case_are_neither_read_nor_emptied(where: str, tmp_path: Path) -> None:
    folder, victim = tmp_path / "case", tmp_path / "victim"
    put(folder, seeds.case_folders()[0])
    case = open_case(folder)
    linked = folder / where
    linked.rename(tmp_path / "moved")
    put(victim, {"holiday.png": b"mine", "auto/holiday.png": b"mine", "add/holiday.png": b"mine"})
    linked.symlink_to(victim)
    with pytest.raises(InputError, match="is a link"):
        open_case(folder)
    with pytest.raises(InputError, match="is a link"):
        save_case(folder, case)
    assert {p.name for p in victim.rglob("*.png")} == {"holiday.png"} and len(
        list(victim.rglob("*.png"))
    ) == 3


def test_frame_numbers_of_a_case_are_no_paths(tmp_path: Path) -> None:
    put(tmp_path, seeds.case_folders()[0])
    record = json.loads((tmp_path / RECORD).read_text())
    record["frames"][1]["number"] = "../../secret"
    put(tmp_path, {RECORD: json.dumps(record).encode()})
    with pytest.raises(InputError, match="damaged"):
        open_case(tmp_path)


@pytest.mark.parametrize("name", ["depth_model", "mask_model", "weights"])
def test_a_case_brings_no_network_of_its_own(name: str, tmp_path: Path) -> None:
    put(tmp_path / "case", seeds.case_folders()[0])
    put(tmp_path, {"case/model.onnx": b"x", "chosen.onnx": b"x"})
    record = json.loads((tmp_path / "case" / RECORD).read_text())
    record["options"][name] = "model.onnx"
    put(tmp_path / "case", {RECORD: json.dumps(record).encode()})
    with pytest.raises(InputError, match="came with it"):
        open_case(tmp_path / "case")
    record["options"][name] = "../chosen.onnx"
    put(tmp_path / "case", {RECORD: json.dumps(record).encode()})
    assert getattr(open_case(tmp_path / "case").options, name) == (tmp_path / "chosen.onnx").resolve()


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\\b", "/x", "a\0b", ".x", "a:b", "a" * 200])
def test_names_of_a_batch_are_no_paths(name: str, tmp_path: Path) -> None:
    path = put(tmp_path, {"cases.json": json.dumps([{"input": "a", "name": name}]).encode()}) / "cases.json"
    with pytest.raises(InputError, match="cannot be that of a folder"):
        read_cases(str(path), {})


@pytest.mark.parametrize(
    "words",
    ["http://127.0.0.1:9/x", "https://x/y", "file:///etc/hostname", "concat:a|b", "tcp://0.0.0.0:1?listen=1",
     "udp://@:5000", "rtp://0.0.0.0:5004", "pipe:0", "srt://:9000?mode=listener", "rtsp://"],
)  # fmt: skip
def test_live_sources_open_what_was_named_and_never_listen(words: str) -> None:
    with pytest.raises(InputError):
        open_live_source(words, InputOptions())


def taken(folder: Path) -> list[object]:
    """What the watcher of a command folder takes in a second."""
    inbox: Inbox = SimpleQueue()
    ended = threading.Event()
    thread = threading.Thread(target=watch_folder, args=(folder, inbox, ended))
    thread.start()
    end = time.monotonic() + 5
    while inbox.empty() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    ended.set()
    thread.join()
    return [inbox.get() for _ in range(inbox.qsize())]


@posix
def test_commands_come_from_this_user_alone(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", {"a.json": b'{"command": "cancel"}', "keep.json": b"{}"})
    run = tmp_path / "run"
    run.mkdir()
    (run / "commands").symlink_to(elsewhere)
    folder = command_folder(run, watched=True)
    assert not folder.is_symlink() and folder.stat().st_mode & 0o777 == 0o700
    assert (elsewhere / "keep.json").exists()
    (folder / "linked.json").symlink_to(elsewhere / "a.json")
    os.mkfifo(folder / "pipe.json")
    put(folder, {"own.json": b'{"command": "pause"}'})
    if os.geteuid() == 0:
        put(folder, {"other.json": b'{"command": "cancel"}'})
        os.chown(folder / "other.json", 12345, 12345)
    found = taken(folder)
    assert [getattr(m, "name", None) for m in found] == ["pause"]
    assert np.all([(elsewhere / n).exists() for n in ("a.json", "keep.json")])
