"""Finding the camera again, in the map that it was lost in or in an earlier one."""

from __future__ import annotations

from collections.abc import Sequence

from splatomy.methods.live_scene.frames import Float, Float32, Level
from splatomy.methods.live_scene.health import is_sure
from splatomy.methods.live_scene.keyframes import thumbnail_of
from splatomy.methods.live_scene.parts import Part
from splatomy.methods.live_scene.tracking import Found, Tracker, View

_CANDIDATES = 3
_ALIKE = 0.3


def searched(
    tracker: Tracker, part: Part, levels: Sequence[Level], places: Sequence[Float]
) -> tuple[Found, View]:
    """The best of some places (4, 4) and of the keyframes that look most like the frame."""
    fine = levels[-1]
    alike = part.keyframes.most_alike(_thumbnail(fine), _CANDIDATES)
    tries = [*places, *(k.camera_from_world for score, k in alike if score > _ALIKE)]
    best: tuple[Found, View] | None = None
    for pose in tries:
        view = part.surfels.view(pose, fine, part.motion)
        found = tracker.track(view, pose, levels, [pose])
        if best is None or found.likeness * found.coverage > best[0].likeness * best[0].coverage:
            best = found, view
        if is_sure(found):
            break
    if best is None:
        raise ValueError("there must be a place to try")
    return best


def seen_in(
    tracker: Tracker, parts: Sequence[Part], levels: Sequence[Level]
) -> tuple[int, Found, View] | None:
    """Which of some maps shows the place of a frame again, and its pose there."""
    thumbnail = _thumbnail(levels[-1])
    for number, part in enumerate(parts):
        for score, keyframe in part.keyframes.most_alike(thumbnail, 1):
            if score < _ALIKE:
                continue
            pose = keyframe.camera_from_world
            view = part.surfels.view(pose, levels[-1], part.motion)
            found = tracker.track(view, pose, levels, [pose])
            if is_sure(found):
                return number, found, view
    return None


def _thumbnail(level: Level) -> Float32:
    return thumbnail_of(level.grey.cpu().numpy(), level.usable.cpu().numpy())
