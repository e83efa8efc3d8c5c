"""The Gaussians of a run as points and ellipses, carried along with the moving surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splatomy.geometry.rigid import rotation_from_quat
from splatomy.io.gaussians import gaussians_among
from splatomy.io.run import RunFolder
from splatomy.scene import Mesh
from splatomy_gui.panels.inspect.colouring import greyed
from splatomy_gui.panels.inspect.moving_surface import MovingSurface

_MOST_ELLIPSES = 20_000
_CORNERS = 12
_CARRIERS = 3
_DC = 0.28209479177387814
"""Of the constant spherical harmonic, 1 / (2 sqrt(pi))."""


@dataclass(frozen=True)
class GaussianLayer:
    """Gaussians at rest. means: (N, 3) world. colours: (N, 3) uint8, grey where made up.

    axes: (N, 2, 3), the half axes of the ellipse of one standard deviation. carriers, shares: (N, k) vertices
    of the surface that carry each; rest: (V, 3) these vertices at rest.
    """

    means: NDArray[np.float32]
    colours: NDArray[np.uint8]
    axes: NDArray[np.float32]
    carriers: NDArray[np.int64]
    shares: NDArray[np.float32]
    rest: NDArray[np.float32]

    def means_with(self, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Means (N, 3) when the surface has these vertices (V, 3)."""
        moved = vertices[self.carriers] - self.rest[self.carriers]
        return np.asarray(self.means + (moved * self.shares[..., None]).sum(1), np.float32)

    @property
    def drawn(self) -> NDArray[np.int64]:
        """Numbers of the Gaussians that are drawn as ellipses, evenly chosen if there are very many."""
        return np.unique(
            np.linspace(0, len(self.means) - 1, min(len(self.means), _MOST_ELLIPSES)).astype(int)
        )

    def ellipses(self, means: NDArray[np.float32]) -> Mesh:
        """The drawn Gaussians at these means as flat ellipses."""
        chosen = self.drawn
        corners = self.corners(means)
        first = (np.arange(len(chosen)) * _CORNERS)[:, None]
        fan = np.stack([np.zeros(_CORNERS - 2), np.arange(1, _CORNERS - 1), np.arange(2, _CORNERS)], -1)
        faces = (first[..., None] + fan).reshape(-1, 3).astype(np.int32)
        colours = np.repeat(self.colours[chosen], _CORNERS, axis=0).astype(np.float32) / np.float32(255)
        return Mesh(corners, faces, colours)

    def corners(self, means: NDArray[np.float32]) -> NDArray[np.float32]:
        """The corners of the drawn ellipses at these means, (n * corners, 3)."""
        chosen = self.drawn
        angle = np.arange(_CORNERS) * (2 * np.pi / _CORNERS)
        circle = np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)
        around = np.einsum("ka,nac->nkc", circle, self.axes[chosen])
        return np.asarray((means[chosen][:, None] + around).reshape(-1, 3), np.float32)


def read_gaussian_layer(run: Path, surface: MovingSurface) -> GaussianLayer | None:
    """The Gaussians of a run, or None for a run without any.

    They are stored at rest; the surface at that time carries them.
    """
    state = RunFolder(run).load_scene_state()
    found = gaussians_among(state.arrays)
    if "quats_wxyz" not in found or "log_scales" not in found:
        return None
    means = np.asarray(found["means_mm"], np.float32)
    rest = surface.at(float(state.values.get("rest_time_s", surface.times_s[0])))
    distance, carriers = cKDTree(rest).query(means, min(_CARRIERS, len(rest)))
    weight = 1 / np.maximum(distance.reshape(len(means), -1), 1e-6)
    scales = np.exp(np.asarray(found["log_scales"], np.float32))
    largest = np.argsort(-scales, axis=1)[:, :2]
    rotation = rotation_from_quat(found["quats_wxyz"]).astype(np.float32)
    columns = np.take_along_axis(rotation.transpose(0, 2, 1), largest[..., None], axis=1)
    axes = columns * np.take_along_axis(scales, largest, axis=1)[..., None]
    if "sh" in found:
        colours = np.clip(0.5 + _DC * np.asarray(found["sh"])[:, 0], 0, 1) * 255
    else:
        colours = np.full((len(means), 3), 200.0)
    painted = np.rint(colours).astype(np.uint8)
    if "evidence" in found:
        painted = greyed(painted, np.asarray(found["evidence"]))
    return GaussianLayer(
        means,
        painted,
        axes.astype(np.float32),
        carriers.reshape(len(means), -1).astype(np.int64),
        (weight / weight.sum(1, keepdims=True)).astype(np.float32),
        rest,
    )
