"""Gaussians as flat disks: what they start from, their axes and their normals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from splatomy.events import Task
from splatomy.gaussians.init import GaussianCloud, neighbour_distance_mm
from splatomy.kernels.spherical_harmonics import num_coefficients, sh_from_colours
from splatomy.methods.pulled_surface.config import Config
from splatomy.methods.pulled_surface.start import Cloud, start_cloud, start_gaussians
from splatomy.methods.pulled_surface.views import HALF, Frame, Pictures

_FOOTPRINT = 0.7
"""Start size of a disk, in distances to its neighbours."""
_THICKNESS = 0.3
_OPACITY = 0.6

Rows = dict[str, Tensor]
"""means_mm (N, 3), quats_wxyz (N, 4), log_scales (N, 2), log_thickness (N, 1), opacity_logit (N,) and
sh (N, K, 3), in the working cube."""


@dataclass(frozen=True)
class Start:
    """The disks that a run begins with, ``spacing`` apart, in a working cube.

    near: they lie on the surface as far as is known; from a hull to the surface of a hollow it is far.
    """

    rows: Rows
    spacing: float
    frame: Frame
    near: bool


def first_disks(pictures: Pictures, config: Config, device: torch.device) -> Task[Start]:
    """A user's own Gaussians (the capture's detail ``gaussians``), or disks on what is known of the surface.

    Raises:
        InputError: nothing tells where the scene is, or hardly any Gaussian lies where the pictures look.
    """
    given = pictures.capture.details.get("gaussians")
    if given is not None:
        gaussians, frame = yield from start_gaussians(pictures, given, config.max_surfels)
        return Start(*rows_of_gaussians(gaussians, frame, config.sh_degree, device), frame, near=True)
    cloud, frame = yield from start_cloud(pictures, config.start_points, config.seed)
    return Start(*rows_of_points(cloud, frame, config.sh_degree, device), frame, cloud.near)


def rows_of_points(cloud: Cloud, frame: Frame, degree: int, device: torch.device) -> tuple[Rows, float]:
    """Disks that lie across the normals of a cloud, and the usual distance between neighbours."""
    points = frame.to_working(cloud.points).astype(np.float32)
    apart = neighbour_distance_mm(points).clip(1e-3 * HALF, 0.2 * HALF)
    count = len(points)
    sh = torch.zeros(count, num_coefficients(degree), 3, device=device)
    sh[:, 0] = sh_from_colours(_tensor(cloud.colours, device))
    rows = {
        "means_mm": _tensor(points, device),
        "quats_wxyz": _tensor(quats_of_normals(cloud.normals), device),
        "log_scales": _tensor(np.log(_FOOTPRINT * apart), device)[:, None].repeat(1, 2),
        "log_thickness": _tensor(np.log(_THICKNESS * apart), device)[:, None],
        "opacity_logit": torch.full((count,), math.log(_OPACITY / (1 - _OPACITY)), device=device),
        "sh": sh,
    }
    return rows, float(np.median(apart))


def rows_of_gaussians(
    cloud: GaussianCloud, frame: Frame, degree: int, device: torch.device
) -> tuple[Rows, float]:
    """A user's Gaussians as disks whose normal is the axis of least scale, and their usual distance."""
    means = frame.to_working(cloud.means_mm).astype(np.float32)
    spacing = float(np.median(neighbour_distance_mm(means)))
    order = np.argsort(-cloud.scales_mm, axis=1, kind="stable")
    scales = np.take_along_axis(cloud.scales_mm / frame.scale, order, 1).clip(1e-4 * HALF)
    axes = Rotation.from_quat(cloud.quats_wxyz[:, [1, 2, 3, 0]]).as_matrix()
    axes = np.take_along_axis(axes, order[:, None, :], 2)
    # A mirrored order of axes is no rotation: turning one axis round mends it and leaves the disk as it is.
    axes[:, :, 2] *= np.sign(np.linalg.det(axes))[:, None]
    quats = Rotation.from_matrix(axes).as_quat()[:, [3, 0, 1, 2]]
    opacity = cloud.opacity.clip(1e-3, 1 - 1e-3)
    sh = np.zeros((len(cloud), num_coefficients(degree), 3), np.float32)
    known = min(sh.shape[1], cloud.sh.shape[1])
    sh[:, :known] = cloud.sh[:, :known]
    rows = {
        "means_mm": means,
        "quats_wxyz": quats,
        "log_scales": np.log(scales[:, :2]),
        "log_thickness": np.log(scales[:, 2:].clip(None, spacing)),
        "opacity_logit": np.log(opacity / (1 - opacity)),
        "sh": sh,
    }
    return {name: _tensor(array, device) for name, array in rows.items()}, spacing


def _tensor(array: NDArray[np.floating], device: torch.device) -> Tensor:
    return torch.as_tensor(np.asarray(array, np.float32), device=device)


def axes_of(quats_wxyz: Tensor) -> Tensor:
    """Rotation matrices (N, 3, 3) of quaternions (N, 4); their last columns are the normals."""
    w, x, y, z = torch.nn.functional.normalize(quats_wxyz, dim=1).unbind(1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def normals_of(quats_wxyz: Tensor) -> Tensor:
    """Normals (N, 3) of disks with quaternions (N, 4)."""
    return axes_of(quats_wxyz)[:, :, 2]


def quats_of_normals(normals: NDArray[np.floating]) -> NDArray[np.float32]:
    """Quaternions (N, 4), w first, that turn the z axis to unit normals (N, 3)."""
    n = np.asarray(normals, np.float64)
    # Half way between z and n; opposite directions have any axis.
    quats = np.stack([1 + n[:, 2], -n[:, 1], n[:, 0], np.zeros(len(n))], 1)
    quats[quats[:, 0] < 1e-6] = [0.0, 1.0, 0.0, 0.0]
    return (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)
