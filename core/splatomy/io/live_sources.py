"""Live sources by the words a user names them with."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from splatomy.errors import InputError
from splatomy.io.endoscopy_detect import endoscopy_reader
from splatomy.io.frames import picture_files
from splatomy.io.live_device import camera_source, network_source
from splatomy.io.live_folder import growing_folder_source
from splatomy.io.live_frames import LiveFrame, LiveSource, Rate, SourceInfo
from splatomy.io.live_recorded import recorded_source
from splatomy.io.options import InputOptions

__all__ = ["LiveFrame", "LiveSource", "Rate", "SourceInfo", "open_live_source"]

_CAMERA, _FOLDER = "camera:", "folder:"
_WATCHED_S = 3.0
_LOOK_EVERY_S = 0.2


def open_live_source(text: str, options: InputOptions, rate: Rate = "real") -> LiveSource:
    """The source that ``text`` names, ready to be read.

    A path to a recording of any known layout is played; a folder that is empty or gets a picture within three
    seconds, and every one named as folder:PATH, is followed while it grows. camera:K is a camera by
    its number (camera:K+L: two eyes) or name. rtsp://... is network video, opened only because it is named.

    Raises:
        InputError: it names nothing that can be opened, or does not answer in time.
    """
    if text.startswith(_CAMERA):
        return camera_source(text.removeprefix(_CAMERA), options)
    if "://" in text:
        return network_source(text, options)
    if text.startswith(_FOLDER):
        return growing_folder_source(Path(text.removeprefix(_FOLDER)), options, rate)
    path = Path(text)
    if not text or not path.exists():
        raise InputError(
            f"{text!r} does not exist; expected a video, a folder, camera:0 or rtsp://...: check the name."
        )
    if path.is_dir() and (endoscopy_reader(path, options) is None or _grows(path)):
        return growing_folder_source(path, options, rate)
    return recorded_source(path, options, rate)


def _grows(folder: Path) -> bool:
    """True if a plain folder of pictures gets one, or more of one, while it is watched."""
    # The times of the files alone do not tell: they are by a clock that may be set, or another machine's.
    before = _content(folder)
    until = time.monotonic() + _WATCHED_S
    while before and time.monotonic() < until:
        time.sleep(_LOOK_EVERY_S)
        if _content(folder) != before:
            return True
    return False


def _content(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of the pictures in a folder."""
    found = {}
    for path in picture_files(folder):
        # One that is put in its place under another name, or taken away, meanwhile.
        with contextlib.suppress(FileNotFoundError):
            state = path.stat()
            found[path.name] = (state.st_size, state.st_mtime_ns)
    return found
