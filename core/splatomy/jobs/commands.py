"""Commands of a front end: read by threads, obeyed by the thread that owns the device."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from splatomy.jobs.request import strict_json

_LONGEST_LINE = 1 << 20
_FOLDER_EVERY_S = 0.2
_UNFINISHED_S = 2.0
# Windows keeps other users out by the folder's rights alone.
_USER = getattr(os, "geteuid", None)


@dataclass(frozen=True)
class Command:
    """A command by name, with everything that came with it."""

    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Unreadable:
    """Something that is no command, and why."""

    text: str


@dataclass(frozen=True)
class FrontEndGone:
    """Nobody listens any more."""


Message = Command | Unreadable | FrontEndGone
# A SimpleQueue, because signal handlers put into it: its put never waits for a lock of the same thread.
Inbox = SimpleQueue[Message]


def parse_command(line: bytes, where: str) -> Command | Unreadable:
    """The command of one JSON text."""
    try:
        fields = strict_json(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("command"), str):
        return Unreadable(f'Something in {where} is no command: expected {{"command": NAME, ...}} as JSON.')
    return Command(fields["command"], fields)


def read_stdin(inbox: Inbox) -> None:
    """Puts every line of standard input into the inbox, then that the front end is gone.

    The file descriptor is read itself: a thread that waits inside ``sys.stdin`` keeps its lock, which
    the interpreter wants when it ends.
    """
    rest, skipping = b"", False
    while block := _read(0):
        *lines, rest = (rest + block).split(b"\n")
        if lines and skipping:
            lines, skipping = lines[1:], False
        for line in filter(bytes.strip, lines):
            inbox.put(parse_command(line, "stdin"))
        if len(rest) > _LONGEST_LINE:
            if not skipping:
                inbox.put(Unreadable("A line on stdin is longer than any command; it was dropped."))
            rest, skipping = b"", True
    if rest.strip() and not skipping:
        inbox.put(parse_command(rest, "stdin"))
    inbox.put(FrontEndGone())


def _read(descriptor: int) -> bytes:
    """Some bytes, none at the end of the file or when it is not open."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:
        return b""


def _command_files(folder: Path) -> list[Path]:
    """Files NAME.json of this user, oldest first; links are none."""
    found: list[tuple[int, str, Path]] = []
    try:
        for entry in os.scandir(folder):
            facts = entry.stat(follow_symlinks=False)
            is_own = stat.S_ISREG(facts.st_mode) and (_USER is None or facts.st_uid == _USER())
            if entry.name.endswith(".json") and not entry.name.startswith(".") and is_own:
                found.append((facts.st_mtime_ns, entry.name, Path(entry.path)))
    except OSError:
        return []
    return [path for _, _, path in sorted(found)]


def command_folder(run: Path, *, watched: bool) -> Path:
    """RUN/commands without what was meant for an engine that is gone; made, for this user alone, if watched.

    A link in its place is removed: it would let commands come from elsewhere, and files elsewhere go.
    """
    folder = run / "commands"
    if folder.is_symlink():
        folder.unlink()
    _drop_commands(folder)
    if watched:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    return folder


def _drop_commands(folder: Path) -> None:
    for path in _command_files(folder):
        path.unlink(missing_ok=True)


def watch_folder(folder: Path, inbox: Inbox, ended: threading.Event) -> None:
    """Puts every command file into the inbox and removes it, until ``ended`` is set."""
    seen_s: dict[Path, float] = {}
    while not ended.wait(_FOLDER_EVERY_S):
        # A file's own time says little of its age: clocks are set, and that of a drive may differ from ours.
        files, now_s = _command_files(folder), time.monotonic()
        seen_s = {path: seen_s.get(path, now_s) for path in files}
        for path in files:
            try:
                whole = path.stat().st_size <= _LONGEST_LINE
                message = parse_command(path.read_bytes() if whole else b"", "the folder of commands")
                # A front end that does not rename may still be writing it.
                if isinstance(message, Unreadable) and now_s - seen_s[path] < _UNFINISHED_S:
                    continue
                path.unlink()
            except OSError:
                continue
            inbox.put(message)
