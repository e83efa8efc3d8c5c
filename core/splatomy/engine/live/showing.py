"""What a snapshot shows, copied from the session's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from splatomy.engine.live.frame_preparing import Prepared
from splatomy.engine.live.publishing import Picture, cell_for, displayed
from splatomy.engine.tissue_products import eight_bit
from splatomy.extract.tissue import depth_mesh
from splatomy.geometry.cameras import Cameras
from splatomy.methods.live_scene.model import SOLID_ALPHA
from splatomy.methods.live_scene.online import Online
from splatomy.methods.live_scene.outcome import Outcome
from splatomy.methods.live_scene.publishing import preview_of, scene_of

_MESH_STRIDE_PX = 2
_DISPLAY_SPACING = 2.0
"""Points lie about this many pixels apart."""


def picture_of(
    online: Online, generation: int, outcome: Outcome, prepared: Prepared, gaussians: bool, mesh: bool
) -> Callable[[], Picture]:
    """The snapshot of a generation; with the Gaussians, and the mesh of what is in sight, if asked.

    What changes is copied now; what is made of it, by whom the result is called: the trainer need not wait.
    """
    scene = scene_of(online, generation)
    colour, alpha, depth = preview_of(online, scene.now)
    values = _values(online, generation, outcome, scene.now)
    time_s, pixel = online.time_s, online.part.surfels.pixel_mm

    def made() -> Picture:
        surface = None
        if mesh:
            known = depth.copy()
            known[alpha < SOLID_ALPHA] = float("nan")
            surface = depth_mesh(known, scene.now, colour, None, _MESH_STRIDE_PX)
        return Picture(
            scene,
            values,
            displayed({**scene.surfels, "means_mm": scene.places_mm(time_s)}),
            pixel,
            cell_for(_DISPLAY_SPACING * pixel),
            eight_bit(colour),
            eight_bit(prepared.frame.image),
            prepared.received_s,
            scene.surfels if gaussians else None,
            surface,
        )

    return made


def _values(online: Online, generation: int, outcome: Outcome, camera: Cameras) -> dict[str, Any]:
    """The JSON values of a snapshot."""
    marks = [
        {"id": m.identifier, "name": m.name, "position": online.place_of(m).tolist()} for m in online.marks
    ]
    return {
        "generation": generation,
        "frame": outcome.index,
        "time_s": outcome.time_s,
        "camera_from_world": camera.camera_from_world[0].tolist(),
        "intrinsics": online.intrinsics.tolist(),
        "size": [online.width_px, online.height_px],
        "metric": online.metric,
        "state": str(outcome.state),
        "marks": marks,
    }
