"""`splatomy frames`: an input as plain pictures, as the methods see it."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from splatomy.cli.own_folder import own_folder
from splatomy.cli.progress import drive
from splatomy.engine.unpacking import UNPACKED_FILES, unpacked
from splatomy.io.options import InputOptions


def frames(arguments: Namespace, options: InputOptions) -> None:
    """Writes the pictures, and says where."""
    own_folder(arguments.out, arguments.force, UNPACKED_FILES, "frames")
    json_lines = arguments.events == "jsonl"
    folder = drive(unpacked(arguments.input, options, arguments.out), json_lines=json_lines)
    said = json.dumps({"event": "done", "frames": str(folder)}) if json_lines else f"Frames: {folder}"
    sys.stdout.write(said + "\n")
