"""The process that feeds a reader: it watches for anything but a value or one sentence, and for new code.

It is forked anew after a crash. What it was reading then still lies in the folder of the input.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fuzz_mutate import mutated
from fuzz_readers import Folder, Reader

import splatomy
from splatomy.errors import InputError

_PACKAGE = str(Path(splatomy.__file__).parent)
_LONGEST_S = 5.0
_MORE_MEMORY_BYTES = 1 << 30
_LONGEST_TEXT = 480
_MOST_TEMPLATES = 100
_TRACED = 0.25
"""Share of the inputs that are watched for new code: watching costs more than reading."""
_FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.", "pickle.find_class",
    "ctypes.dlopen", "shutil.rmtree", "os.remove", "os.rename",
)  # fmt: skip


class Hang(BaseException):
    """A reader used more than the allowed time of the processor."""


class Escape(BaseException):
    """A reader did something that reading never needs: a process, a connection, a write, a pickle."""


class Coverage:
    """Lines of the product that have not run yet; code whose lines all ran is not traced any more."""

    def __init__(self) -> None:
        self._left: dict[int, set[int]] = {}
        self._kept: list[CodeType] = []
        self.found = 0

    def _lines(self, code: CodeType) -> set[int]:
        lines = self._left.get(id(code))
        if lines is None:
            own = code.co_filename.startswith(_PACKAGE)
            lines = {line for _, _, line in code.co_lines() if line} if own else set()
            self._left[id(code)] = lines
            self._kept.append(code)
        return lines

    def trace(self, frame: FrameType, event: str, value: Any) -> Any:
        """The global trace function."""
        return self._local if self._lines(frame.f_code) else None

    def _local(self, frame: FrameType, event: str, value: Any) -> Any:
        lines = self._left[id(frame.f_code)]
        if event == "line" and frame.f_lineno in lines:
            lines.discard(frame.f_lineno)
            self.found += 1
        return self._local if lines else None


class Outcome:
    """What became of an input: accepted, refused, or a finding with a key and a text."""

    def __init__(self, kind: str, text: str = "", key: str = "") -> None:
        self.kind, self.text, self.key = kind, text, key


def place(folder: Folder, where: Path) -> None:
    """Makes a folder hold these files and nothing else."""
    shutil.rmtree(where, ignore_errors=True)
    for name, data in folder.items():
        path = where / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def packed(folder: Folder) -> bytes:
    """A folder as one zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in sorted(folder.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def unpacked(data: bytes) -> Folder:
    """The folder of a zip file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def judged(reader: Reader, where: Path, guarded: bool = True) -> Outcome:
    """What a reader makes of the input in a folder. guarded: in a process that ``_Guard.start`` limits."""
    caught: BaseException | None = None
    try:
        if guarded:
            _Guard.limit(_LONGEST_S)
        reader.read(where)
    except (Exception, Hang, Escape) as error:  # noqa: BLE001 - whatever it is, it is judged
        caught = error
    finally:
        if guarded:
            _Guard.limit(0)
    if caught is None:
        return Outcome("accepted")
    return _sentence(str(caught)) if isinstance(caught, InputError) else _finding(caught)


def _sentence(text: str) -> Outcome:
    """Refused, if the text can be shown: one line of readable characters that is not endless."""
    if len(text) > _LONGEST_TEXT:
        return Outcome("finding", text[:2000], f"long text: {_template(text)[:60]}")
    if not text.isprintable() or not text.strip():
        return Outcome("finding", ascii(text), f"unprintable text: {_template(text)[:60]}")
    return Outcome("refused", text)


def _template(text: str) -> str:
    """A text without what it quotes."""
    return re.sub(r"[^a-z ]+", "#", re.sub(r"['\"(].*?['\")]|\d+", "#", text.lower()))


def _finding(error: BaseException) -> Outcome:
    """Something that must not happen; its key is the error and the innermost line of the product."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(_PACKAGE)]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
    text = "".join(traceback.format_exception(error))
    return Outcome("finding", text[-4000:], f"{type(error).__name__} in {where}")


class _Guard:
    """Time, memory and what a reader may do."""

    known: tuple[str, ...] = ()
    on = False

    @staticmethod
    def limit(seconds: float) -> None:
        """Starts or stops the clock of one input, in seconds of the processor."""
        _Guard.on = seconds > 0
        signal.setitimer(signal.ITIMER_PROF, seconds)

    @staticmethod
    def start(sandbox: Path) -> None:
        """Limits the process that calls it, for good."""
        packages = (path for path in sys.path if path.startswith("/"))
        system = (sys.prefix, sys.base_prefix, "/usr", "/proc/self", "/sys", "/lib")
        _Guard.known = (str(sandbox), _PACKAGE, *packages, *system)

        def late(number: int, frame: FrameType | None) -> None:
            raise Hang(f"over {_LONGEST_S:g} s")

        signal.signal(signal.SIGPROF, late)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MORE_MEMORY_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.addaudithook(_Guard.watch)

    @staticmethod
    def watch(event: str, args: tuple[Any, ...]) -> None:
        """Raises Escape for what no reader needs."""
        if not _Guard.on:
            return
        if event == "open":
            path, mode = str(args[0]), str(args[1] or "")
            writes = any(letter in mode for letter in "wax+") or bool(
                (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            )
            if writes and path != os.devnull and not isinstance(args[0], int):
                raise Escape(f"opens a file for writing: {path[:100]}")
            if isinstance(args[0], str) and path.startswith("/") and not path.startswith(_Guard.known):
                raise Escape(f"opens a file outside of its input: {path[:100]}")
        elif event.startswith(_FORBIDDEN):
            raise Escape(f"{event} {str(args)[:100]}")


class Feeder:
    """One forked process of a reader."""

    def __init__(self, reader: Reader, corpus: Path, sandbox: Path, seed: int) -> None:
        self._reader, self._corpus_folder, self._sandbox = reader, corpus, sandbox
        self._random = random.Random(seed)
        self._coverage = Coverage()
        self._templates: set[str] = set()
        self._inputs: list[Folder] = []
        self._valid: list[Folder] = []
        self._known: set[str] = set()
        self._placed: Folder = {}

    def run(self, seconds: float, out: int, most: int | None = None) -> None:
        """Feeds until the time is over; a JSON line to ``out`` every half second and for every finding.

        most: end after this many changed inputs.
        """
        self._silence()
        _Guard.start(self._sandbox)
        tally = dict.fromkeys(("accepted", "refused", "finding"), 0)
        said = time.monotonic()
        end = said + seconds
        # A file may legitimately be read the first time without counting as new code of a mutation.
        for folder in self._start():
            self._judge(folder, tally, out, keep=False)
        fed = 0
        while (now := time.monotonic()) < end and (most is None or fed < most):
            fed += 1
            folder, changed = self._next()
            self._judge(folder, tally, out, keep=True, changed=changed)
            if now - said > 0.5:
                _send(out, {"tally": tally})
                tally = dict.fromkeys(tally, 0)
                said = now
        _send(out, {"tally": tally, "corpus": len(self._inputs)})

    def _silence(self) -> None:
        """Native libraries speak to the terminal themselves."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)

    def _start(self) -> Iterator[Folder]:
        self._valid = self._reader.seeds()
        self._inputs = list(self._valid)
        for path in sorted(self._corpus_folder.glob("*.zip")):
            with contextlib.suppress(zipfile.BadZipFile, KeyError):
                self._inputs.append(unpacked(path.read_bytes()))
        yield from list(self._inputs)

    def _next(self) -> tuple[Folder, str]:
        """An input of the corpus with one of its files changed, or left out."""
        # Most of what was kept is refused early: half of all start from an input that is read whole.
        chance = self._random.random()
        among = self._valid if chance < 0.5 else self._inputs[-20:] if chance < 0.7 else self._inputs
        folder = dict(self._random.choice(among))
        names = [n for n in folder if self._reader.pictures or not n.endswith((".png", ".jpg"))] or list(
            folder
        )
        if self._random.random() < 0.05:
            names = list(folder)
        name = self._random.choice(names)
        if self._random.random() < 0.01 and len(folder) > 1:
            del folder[name]
        else:
            other = [f[name] for f in self._random.choices(self._inputs, k=3) if name in f]
            folder[name] = mutated(name, folder[name], other, self._random)
        return folder, name

    def _judge(
        self, folder: Folder, tally: dict[str, int], out: int, keep: bool, changed: str | None = None
    ) -> None:
        self._place(folder)
        before = self._coverage.found
        if not keep or self._random.random() < _TRACED:
            sys.settrace(self._coverage.trace)
        try:
            outcome = judged(self._reader, self._sandbox)
        finally:
            sys.settrace(None)
        tally[outcome.kind] += 1
        template = outcome.kind + _template(outcome.text)[:200]
        fresh = template not in self._templates and len(self._templates) < _MOST_TEMPLATES
        self._templates.add(template)
        if outcome.kind == "finding":
            if outcome.key not in self._known:
                self._known.add(outcome.key)
                if changed is not None:
                    folder = self._smaller(folder, changed, outcome.key)
                _send(out, {"finding": outcome.key, "text": outcome.text, "input": packed(folder).hex()})
        elif keep and (self._coverage.found > before or fresh):
            self._inputs.append(folder)
            if outcome.kind == "accepted":
                self._valid.append(folder)
            path = self._corpus_folder / f"{len(self._inputs):05d}-{self._random.randrange(1 << 30):08x}.zip"
            path.write_bytes(packed(folder))

    def _place(self, folder: Folder) -> None:
        """The same as ``place``, with as few writes as the last input allows."""
        if folder.keys() != self._placed.keys():
            place(folder, self._sandbox)
        else:
            for name, data in folder.items():
                if data is not self._placed[name]:
                    (self._sandbox / name).write_bytes(data)
        self._placed = dict(folder)

    def _smaller(self, folder: Folder, name: str, key: str) -> Folder:
        """The input with as much of the changed file cut out as the finding allows."""
        data, tries = folder.get(name, b""), 0
        step = len(data) // 2
        while step and tries < 100:
            at = 0
            while at < len(data) and tries < 100:
                tries += 1
                shorter = {**folder, name: data[:at] + data[at + step :]}
                self._place(shorter)
                if judged(self._reader, self._sandbox).key == key:
                    folder, data = shorter, shorter[name]
                else:
                    at += step
            step //= 2
        return folder


def _send(out: int, message: dict[str, Any]) -> None:
    os.write(out, json.dumps(message).encode() + b"\n")
