"""A session of the stream phantom against its truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.geometry.rigid import inverse
from splatomy.io.run import RunFolder
from splatomy.methods.live_scene.model import LiveScene, load_scene
from splatomy.phantoms.stream import StreamPhantom


def read_path(folder: RunFolder) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times (T,) in s and camera places (T, 3) of a session's trajectory.txt."""
    rows = np.loadtxt(folder.path / "trajectory.txt", ndmin=2)
    return rows[:, 0], rows[:, 1:4]


def trajectory_error(
    times_s: NDArray[np.float64], places_mm: NDArray[np.float64], true_mm: NDArray[np.float64]
) -> dict[str, float]:
    """ate_mm: the root mean square distance of camera places (T, 3) from the true ones, without alignment;
    path_mm: the length of the true path; ate_share: their ratio.
    """
    off = np.linalg.norm(places_mm - true_mm, axis=1)
    path = float(np.linalg.norm(np.diff(true_mm, axis=0), axis=1).sum())
    ate = float(np.sqrt(np.mean(off**2)))
    return {
        "ate_mm": ate,
        "path_mm": path,
        "ate_share": ate / max(path, 1e-9),
        "duration_s": float(np.ptp(times_s)),
    }


def against_phantom(folder: RunFolder, phantom: StreamPhantom) -> dict[str, float]:
    """Errors of a session's path and map against the phantom that it saw.

    map_mae_mm, map_p95_mm: distance of surfels from the true surface. stray_share: of surfels farther from it
    than 3 mm, where instruments are.
    """
    times, places = read_path(folder)
    true = np.stack([inverse(phantom.camera_from_world(float(t)))[:3, 3] for t in times])
    scene = load_scene(folder.load_scene_state())
    distance = surface_distance(scene, phantom, scene.time_s)
    return {
        **trajectory_error(times, places, true),
        "map_mae_mm": float(distance.mean()),
        "map_p95_mm": float(np.percentile(distance, 95)),
        "stray_share": float((distance > 3.0).mean()),
    }


def surface_distance(scene: LiveScene, phantom: StreamPhantom, time_s: float) -> NDArray[np.float64]:
    """Distances (N,) mm of the surfels from the phantom's surface at a time: to its vertices' planes."""
    mesh = phantom.mesh(time_s)
    vertices = mesh.vertices_mm.astype(np.float64)
    corners = vertices[mesh.faces]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, mesh.faces[:, corner], facing)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    points = scene.places_mm(time_s).astype(np.float64)
    far, nearest = cKDTree(vertices).query(points)
    plane = np.abs(((points - vertices[nearest]) * normals[nearest]).sum(1))
    # Beyond the next vertex a plane says nothing.
    return np.asarray(np.where(far < 4 * phantom.preset.node_mm, plane, far))
