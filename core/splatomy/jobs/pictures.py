"""What a front end looks at while a job runs: pictures on request, and a preview of each snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.capture import Grid
from splatomy.errors import InputError
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cone_beam
from splatomy.io.gaussians import gaussians_among, write_gaussians
from splatomy.io.picture import write_png
from splatomy.io.views import read_views
from splatomy.io.volume import write_volume
from splatomy.scene import Scene

_LARGEST_PX = 4096
_PREVIEW_PX = 256
_PREVIEW_VOXELS = 64
_KEPT_PICTURES = 16
_KEPT_SNAPSHOTS = 2
_SOURCE_TO_ISOCENTRE_MM = 750.0
_MAGNIFICATION = 1.6
_FIELD_OF_VIEW = 1.12
"""Width of the picture over the scene's longest edge, both at the scene's centre."""


@dataclass(frozen=True)
class RenderRequest:
    """A picture that a front end wants. identifier: any JSON value, returned with the answer."""

    identifier: Any
    camera: Mapping[str, Any]
    time_s: float | None
    width_px: int
    height_px: int


def render_request(fields: Mapping[str, Any]) -> RenderRequest:
    """The request of a render command, its form checked.

    Raises:
        InputError: a value is missing or not of the protocol.
    """
    camera, size, time_s = fields.get("camera"), fields.get("size"), fields.get("time_s")
    if not isinstance(camera, dict):
        raise InputError("A render needs camera: expected an object with matrices or gantry angles.")
    sides = size if isinstance(size, list) else []
    if len(sides) != 2 or not all(type(n) is int and 1 <= n <= _LARGEST_PX for n in sides):
        raise InputError(f"A render needs size: expected [width, height] of 1 to {_LARGEST_PX} px.")
    if time_s is not None:
        time_s = float(_numbers(time_s, (), "time_s"))
    request = RenderRequest(fields.get("id"), camera, time_s, sides[0], sides[1])
    camera_of(request, np.array([[-1.0] * 3, [1.0] * 3]))
    return request


def _numbers(value: Any, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.shape != shape or not np.isfinite(array).all():
        kind = f"a {' x '.join(map(str, shape))} matrix of finite numbers" if shape else "a finite number"
        raise InputError(f"A render's {name}: expected {kind}.")
    return array


def camera_of(request: RenderRequest, bounds_mm: NDArray[np.float64]) -> Cameras:
    """The one camera of a request for a scene in that box, (2, 3) mm.

    Raises:
        InputError: the matrices or angles cannot be a camera.
    """
    camera, width, height = request.camera, request.width_px, request.height_px
    if camera.keys() == {"primary_deg", "secondary_deg"}:
        primary, secondary = (float(_numbers(camera[k], (), k)) for k in ("primary_deg", "secondary_deg"))
        return c_arm(primary, secondary, bounds_mm, width, height)
    if camera.keys() != {"intrinsics", "camera_from_world"}:
        raise InputError(
            "A render's camera: expected intrinsics and camera_from_world, or primary_deg and secondary_deg."
        )
    k = _numbers(camera["intrinsics"], (3, 3), "intrinsics")
    pose = _numbers(camera["camera_from_world"], (4, 4), "camera_from_world")
    if min(k[0, 0], k[1, 1]) <= 0 or k[1, 0] != 0 or not np.allclose(k[2], [0, 0, 1]):
        raise InputError("A render's intrinsics: expected upper triangular with positive focal lengths, px.")
    rotation = pose[:3, :3]
    straight = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) and np.linalg.det(rotation) > 0
    if not straight or not np.allclose(pose[3], [0, 0, 0, 1]):
        raise InputError("A render's camera_from_world: expected a rotation and a shift in mm, no scale.")
    return Cameras(k[None], pose[None], width, height)


def c_arm(
    primary_deg: float, secondary_deg: float, bounds_mm: NDArray[np.float64], width_px: int, height_px: int
) -> Cameras:
    """One C-arm view about the centre of the box (2, 3) mm, of the sphere about it as wide as the box.

    Filling the picture matters more than the box's corners, which are mostly empty.
    """
    width_mm = float((bounds_mm[1] - bounds_mm[0]).max())
    source_mm = max(_SOURCE_TO_ISOCENTRE_MM, 2 * width_mm)
    pitch_mm = _FIELD_OF_VIEW * _MAGNIFICATION * width_mm / min(width_px, height_px)
    camera = cone_beam(
        np.radians(primary_deg),
        np.radians(secondary_deg),
        source_mm,
        _MAGNIFICATION * source_mm,
        width_px,
        height_px,
        (pitch_mm, pitch_mm),
    )
    centred = np.eye(4)
    centred[:3, 3] = -bounds_mm.mean(0)
    return Cameras(camera.intrinsics, camera.camera_from_world @ centred, width_px, height_px)


def _write_picture(path: Path, colour: NDArray[np.float32], top: float) -> None:
    """Writes (H, W, C) as an 8-bit PNG: vessels dark on white, ``top`` black; three channels as sRGB."""
    image = np.nan_to_num(colour)
    if image.shape[-1] == 1:
        picture = 255 - np.clip(image[..., 0] / max(top, 1e-9), 0, 1) * 255
    else:
        picture = np.clip(image, 0, 1) * 255
    write_png(path, picture.astype(np.uint8))


def _middle_s(scene: Scene) -> float:
    return float(np.mean(scene.time_range_s))


class Gallery:
    """RUN/live/: the newest pictures and previews; older ones are removed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute() / "live"
        self._pictures: list[list[Path]] = []
        self._snapshots: list[list[Path]] = []
        self._count = 0
        self._top = 0.0

    def clear(self) -> None:
        """Removes what an earlier engine left."""
        for path in self.folder.glob("*"):
            path.unlink()

    def render(self, scene: Scene, request: RenderRequest) -> Path:
        """The file of a picture; grey levels as in the newest preview, so a turning view does not flicker.

        Raises:
            InputError: the scene cannot be rendered.
        """
        if "render" not in scene.abilities:
            raise InputError("This method's scenes cannot be rendered. Look at its volume instead.")
        camera = camera_of(request, scene.bounds_mm)
        time_s = _middle_s(scene) if request.time_s is None else request.time_s
        colour = scene.render(camera, time_s).colour[0]
        self._count += 1
        path = self.folder / f"render_{self._count:06d}.png"
        _write_picture(path, colour, self._top)
        self._pictures = _kept([*self._pictures, [path]], _KEPT_PICTURES)
        return path

    def preview(self, scene: Scene, step: int) -> dict[str, str]:
        """The files of a snapshot by kind, all written."""
        files: dict[str, Path] = {}
        start = self.folder / f"step_{step:07d}"
        if "render" in scene.abilities:
            camera = self._preview_camera(scene)
            colour = scene.render(camera, _middle_s(scene)).colour[0]
            self._top = float(np.quantile(np.nan_to_num(colour), 0.9995))
            files["preview"] = start.with_suffix(".png")
            _write_picture(files["preview"], colour, self._top)
        state = scene.state()
        gaussians = gaussians_among(state.arrays)
        if gaussians:
            files["gaussians"] = start.with_suffix(".ply")
            write_gaussians(files["gaussians"], gaussians, state.values.get("metric") is not False)
        if "volume" in scene.abilities:
            files["volume"] = start.with_suffix(".nii.gz")
            write_volume(files["volume"], scene.volume(_coarse_grid(scene.bounds_mm), None))
        new = list(files.values())
        older = [[p for p in paths if p not in new] for paths in self._snapshots]
        self._snapshots = _kept([*older, new], _KEPT_SNAPSHOTS)
        return {kind: str(path) for kind, path in files.items()}

    def _preview_camera(self, scene: Scene) -> Cameras:
        """From the front; a surface, which has a front only where it was seen from, from its first camera."""
        own = self.folder.parent / "scene" / "cameras.json"
        if "volume" in scene.abilities or not own.exists():
            return c_arm(0.0, 0.0, scene.bounds_mm, _PREVIEW_PX, _PREVIEW_PX)
        camera = read_views(own, 1, 1).cameras[0]
        return camera.resized(max(1, round(max(camera.width_px, camera.height_px) / _PREVIEW_PX)))


def _kept(groups: list[list[Path]], count: int) -> list[list[Path]]:
    """The newest groups; the files of the others are removed."""
    for path in (path for group in groups[:-count] for path in group):
        path.unlink(missing_ok=True)
    return groups[-count:]


def _coarse_grid(bounds_mm: NDArray[np.float64]) -> Grid:
    """A grid over the box with cubic voxels, the longest edge in ``_PREVIEW_VOXELS``."""
    size_mm = bounds_mm[1] - bounds_mm[0]
    voxel_mm = float(size_mm.max()) / _PREVIEW_VOXELS
    i, j, k = (max(1, int(n)) for n in np.ceil(size_mm / voxel_mm - 1e-6))
    grid = Grid.centred((i, j, k), (voxel_mm,) * 3)
    affine = grid.affine_mm.copy()
    affine[:3, 3] += bounds_mm.mean(0)
    return Grid(grid.shape, affine)
