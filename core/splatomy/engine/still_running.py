"""From opened views of a still scene to what a method trains on, and how well it predicts held-out views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.capture import Capture
from splatomy.engine.holdout import spread_over
from splatomy.engine.still_views import chosen_views
from splatomy.events import Progress, Task
from splatomy.extract.room import check_room, surface_bytes
from splatomy.io.atomic import write_json
from splatomy.io.picture import write_png
from splatomy.io.views import Views, write_views
from splatomy.method import MethodSpec
from splatomy.metrics.image import image_metrics
from splatomy.scene import Scene

_MOST_MEASURED = 120


@dataclass(frozen=True)
class PreparedViews:
    """Views with everything that a method needs.

    observed: all T views as recorded. training: the N views that are trained on; of a method that completes
    an object, with its hidden parts filled and ``synthetic`` set. train: (N,) their numbers.
    inpainting: how hidden parts were filled, as JSON values.
    """

    observed: Capture
    training: Capture
    train: NDArray[np.intp]
    inpainting: Mapping[str, Any] = field(default_factory=dict)


def prepare_views(
    folder: Path,
    spec: MethodSpec,
    config: Any,
    capture: Capture,
    train: NDArray[np.intp],
    own: Mapping[str, Any],
    device: str,
    learn: bool,
) -> Task[PreparedViews]:
    """The views ready for training; what was derived of them is kept in ``folder`` (RUN/prepared).

    own: the input's part of the run's record, by which a change is noticed. device: where networks run.
    learn: networks may be trained on the views to fill them better.

    Raises:
        InputError: the mesh that the settings ask for does not fit into memory, or parts cannot be filled.
    """
    cells = getattr(config, "mesh_resolution", None)
    if cells is not None:
        check_room(surface_bytes(cells), f"A mesh of {cells} cells a side", "a smaller mesh_resolution")
    filled = capture
    if "target" in spec.requires:
        # It pulls in the inpainting, which other methods do without.
        from splatomy.engine.completing import complete_views

        filled = yield from complete_views(folder, capture, train, own, device, learn)
    yield from _written(folder, capture, filled)
    inpainting = filled.details.get("inpainting", {})
    return PreparedViews(capture, chosen_views(filled, train), train, inpainting)


def _written(folder: Path, capture: Capture, filled: Capture) -> Task[None]:
    """Masks as pictures (255 = hidden; target/: 255 = the whole object; synthetic/) and poses.json."""
    if capture.cameras is not None:
        write_views(folder / "poses.json", Views(capture.cameras, capture.times_s))
    layers = {"occluded": capture.occluded, "target": filled.target, "synthetic": filled.synthetic}
    for name, masks in layers.items():
        if masks is None:
            continue
        for n, mask in enumerate(masks):
            write_png(folder / name / f"{n:06d}.png", np.where(mask, np.uint8(255), np.uint8(0)))
            yield Progress("masks", n + 1, len(masks))
    parts = [name for name, masks in layers.items() if masks is not None]
    write_json(folder / "views.json", {"contract": 1, "count": len(capture), "masks": parts})


def recorded_picture(capture: Capture, view: int, background: float | None) -> NDArray[np.float32]:
    """A recorded picture (H, W, 3), with the scene's own background in place of all but the object.

    background: brightness behind the object, None = the scene shows everything that the pictures do.
    """
    picture = np.asarray(capture.images[view], np.float32)
    masked = capture.details.get("has_target")
    if background is None or capture.target is None or (masked is not None and not masked[view]):
        return picture
    return np.where(capture.target[view][..., None], picture, np.float32(background))


def background_of(scene: Scene) -> float | None:
    """The brightness that a scene of one object has behind it, None for a whole scene."""
    value = scene.state().values.get("background")
    return None if value is None else float(value)


def still_metrics(scene: Scene, capture: Capture, held: NDArray[np.intp]) -> Task[dict[str, float]]:
    """psnr and ssim of held-out views of the input itself; empty without any.

    Where the scene is one object, the recorded pictures are cut out along the object's masks, as published
    figures do, and psnr_masked counts the object's visible pixels alone. Hidden pixels count nowhere.
    """
    if len(held) == 0 or capture.cameras is None:
        return {}
    held = spread_over(held, _MOST_MEASURED)
    behind = background_of(scene)
    made, seen, counted = [], [], []
    for n, view in enumerate(held.tolist()):
        rendered = scene.render(capture.cameras[view], 0.0).colour[0]
        recorded = recorded_picture(capture, view, behind)
        shown = np.ones(recorded.shape[:2], np.bool_)
        if capture.occluded is not None:
            shown = ~capture.occluded[view]
        # Nothing can be said of hidden pixels: they are made equal.
        made.append(np.where(shown[..., None], rendered, recorded))
        seen.append(recorded)
        if behind is not None and capture.target is not None:
            shown = shown & capture.target[view]
        counted.append(shown)
        yield Progress("hold-out", n + 1, len(held))
    work = partial(image_metrics, np.stack(made), np.stack(seen), np.stack(counted), data_range=1.0)
    found = yield from beside("hold-out", len(held), len(held), work)
    return {name: value for name, value in found.items() if name != "rmse" and np.isfinite(value)}
