"""Pictures of a finished run on request, spoken in the job protocol."""

from __future__ import annotations

import contextlib
import threading
import traceback
from pathlib import Path

from splatomy.engine import load_scene
from splatomy.engine.request import pick_device
from splatomy.errors import InputError
from splatomy.io.run import RunFolder
from splatomy.jobs.commands import Command, FrontEndGone, Inbox, Message, read_stdin
from splatomy.jobs.output import Output, log, private_stdout
from splatomy.jobs.pictures import Gallery, RenderRequest, render_request
from splatomy.jobs.session import EXIT_DONE, _failure
from splatomy.scene import Scene, drawn_by


def view_run(path: Path) -> int:
    """Answers render commands for a finished run until stdin closes; the exit code.

    The first line is a snapshot with its files: the scene is loaded. Of several requests that wait, only the
    newest is answered.
    """
    inbox: Inbox = Inbox()
    with private_stdout() as stream:
        output = Output(stream, lambda: inbox.put(FrontEndGone()))
        try:
            folder = RunFolder(path)
            folder.record()
            threading.Thread(target=read_stdin, args=(inbox,), daemon=True).start()
            scene = drawn_by(pick_device("auto"), load_scene(folder))
            gallery = Gallery(path)
            gallery.clear()
            files = gallery.preview(scene, 0)
            output.send({"event": "snapshot", "stage": "view", "step": 0, "files": files})
            _serve(scene, gallery, inbox, output)
        except Exception as error:  # noqa: BLE001 - whatever it is, the front end is told
            code, sentence, hint, exit_code = _failure(error)
            if code == "defect":
                log(traceback.format_exc())
            with contextlib.suppress(OSError):
                output.send({"event": "error", "code": code, "text": sentence, "hint": hint})
            return exit_code
    return EXIT_DONE


def _serve(scene: Scene, gallery: Gallery, inbox: Inbox, output: Output) -> None:
    while True:
        messages = [inbox.get()]
        while not inbox.empty():
            messages.append(inbox.get())
        wanted = _newest(messages, output)
        if any(isinstance(message, FrontEndGone) for message in messages):
            return
        if wanted is None:
            continue
        try:
            file = gallery.render(scene, wanted)
        except InputError as error:
            _refuse(output, str(error), wanted.identifier)
        except MemoryError:
            text = "The memory is too small for a picture of that size. Ask for a smaller one."
            _refuse(output, text, wanted.identifier)
        else:
            output.send({"event": "render", "id": wanted.identifier, "file": str(file)})


def _newest(messages: list[Message], output: Output) -> RenderRequest | None:
    """The last render command among the messages; what is none gets a notice."""
    wanted = None
    for message in messages:
        match message:
            case Command("render", fields):
                try:
                    wanted = render_request(fields)
                except InputError as error:
                    _refuse(output, str(error), fields.get("id"))
            case FrontEndGone():
                pass
            case _:
                text = "A command is none of a viewer's: expected render."
                output.send({"event": "notice", "level": "warning", "code": "unknown-command", "text": text})
    return wanted


def _refuse(output: Output, text: str, identifier: object) -> None:
    line = {"event": "notice", "level": "warning", "code": "render", "text": text, "id": identifier}
    output.send(line)
