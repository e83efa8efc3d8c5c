"""The pulled surface of a tissue run: one method's field on another method's disks."""

from __future__ import annotations

from splatomy.engine.request import pick_device
from splatomy.errors import InputError
from splatomy.events import Task
from splatomy.method import find_method, make_config
from splatomy.scene import Mesh, Scene


def pulled_tissue_mesh(scene: Scene, time_s: float, preset: str = "draft") -> Task[Mesh]:
    """The surface that ``pulled_surface`` finds in a scene whose disks move, at a time.

    The same scene gives the same faces at every time.

    Raises:
        InputError: the scene has no disks that move, or no surface.
    """
    # Only this product needs the method, and with it the compiled kernels of its field.
    from splatomy.methods.pulled_surface.tissue import MovingSurfels, pull_tissue

    if not isinstance(scene, MovingSurfels):
        raise InputError(
            "A pulled surface (--surface pulled) is for runs of clips, in which disks move: expected such a "
            "run. Leave the option out for the surface that the run has."
        )
    config = make_config(find_method("pulled_surface"), preset, {})
    pulled = yield from pull_tissue(scene, config, pick_device("auto"))
    return pulled.at(time_s)
