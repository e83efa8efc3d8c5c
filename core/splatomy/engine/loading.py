"""Finished runs, read back."""

from __future__ import annotations

from splatomy.io.run import RunFolder
from splatomy.method import find_method, load_symbol
from splatomy.scene import Scene


def load_scene(folder: RunFolder) -> Scene:
    """The scene of a run folder.

    Raises:
        InputError: there is none, or its method is not installed.
    """
    spec = find_method(str(folder.record().get("method")))
    scene: Scene = load_symbol(spec.load_scene)(folder.load_scene_state())
    return scene
