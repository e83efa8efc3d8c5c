"""ScanNet scenes cut into folders of one object each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from splatomy.background import beside
from splatomy.errors import InputError
from splatomy.events import Notice, Task
from splatomy.io.scannet_objects import list_objects, object_crops, write_object
from splatomy.prepare.view_choice import choose_views
from splatomy.weights.still import find_still_weights


def cut_objects(
    scene: Path,
    out: Path,
    *,
    min_views: int = 20,
    only: tuple[int, ...] = (),
    weights: Path | None = None,
    device: str = "cpu",
) -> Task[list[Path]]:
    """Folders of the scene's objects, each with the views that show it best from all sides.

    only: instance ids, all when empty. weights: a folder with CLIP, which then ranks the views by their
    likeness to the object's name; without it the object's pixels do.

    Raises:
        InputError: no scene, or no object that enough views show.
        MissingBackendError: CLIP was given, but not the packages that run it.
    """
    things = yield from list_objects(scene, min_views)
    things = [t for t in things if not only or t.number in only]
    if not things:
        raise InputError(
            f"{scene.name} has no object that {min_views} views show large enough; expected instance-filt/ "
            "masks of a recorded scene: ask for fewer views with min_views."
        )
    found = find_still_weights(weights)
    clip = None
    if found.clip is not None:
        from splatomy.prepare.clip import Clip

        clip = yield from beside("load weights", 0, 1, partial(Clip, found.clip, torch.device(device)))
    else:
        yield Notice(
            "info", "views-by-size", "Without CLIP weights views are ranked by the object's size in them."
        )
    folders = []
    for thing in things:
        scores = thing.pixels.astype(np.float64)
        if clip is not None:
            crops = yield from object_crops(scene, thing)
            word = clip.of_text(f"a {thing.name}")
            with torch.no_grad():
                pictures = [torch.from_numpy(np.moveaxis(c, -1, 0))[None].to(clip.device) for c in crops]
                scores = np.array([float((clip.of_pictures(p) * word).sum()) for p in pictures])
        chosen = choose_views(thing.world_from_camera, scores)
        kept = scores[chosen].tolist() if clip is not None else None
        folders.append((yield from write_object(scene, thing, chosen.tolist(), out, kept)))
    return folders
