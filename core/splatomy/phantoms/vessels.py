"""A simulated rotational DSA of cerebral vessels, or of any given vessel volume, with its exact truth.

The images come from exact ray cuts (round cones) or from a ray marcher (given voxels), never from
Gaussians, so that no method of this package meets its own model in the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from splatomy.background import beside
from splatomy.capture import Grid
from splatomy.checks import check_shapes
from splatomy.errors import InputError
from splatomy.events import Progress, Task
from splatomy.geometry.cameras import Cameras
from splatomy.geometry.conebeam import cone_beam
from splatomy.geometry.rigid import rigid, rotation_from_vector
from splatomy.phantoms import _bolus, _projector, _truth
from splatomy.phantoms._tree import Tree, TreeSettings, grow
from splatomy.scene import Mesh, Volume

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

# Centre and half axes in mm, and attenuation in 1/mm added inside: soft tissue, skull (a shell: outer
# minus inner), two petrous bones, the upper jaw and a sinus of air.
_HEAD = np.array(
    [
        [0.0, 5.0, 0.0, 75.0, 92.0, 88.0, 0.0170],
        [0.0, 5.0, 0.0, 71.0, 88.0, 84.0, 0.0220],
        [0.0, 5.0, 0.0, 65.0, 82.0, 78.0, -0.0220],
        [-32.0, 12.0, -40.0, 20.0, 9.0, 7.0, 0.0260],
        [32.0, 12.0, -40.0, 20.0, 9.0, 7.0, 0.0260],
        [0.0, -62.0, -52.0, 22.0, 12.0, 9.0, 0.0300],
        [0.0, -70.0, -15.0, 13.0, 8.0, 10.0, -0.0150],
    ]
)


@dataclass(frozen=True)
class VesselPreset:
    """Everything that defines a simulated recording but its seed; change it with ``replace``."""

    frames: int = 133
    duration_s: float = 4.5
    sweep_rad: float = float(np.deg2rad(200.0))
    width_px: int = 256
    height_px: int = 256
    pixel_mm: float = 1.2
    source_to_isocentre_mm: float = 750.0
    source_to_detector_mm: float = 1200.0
    grid_shape: tuple[int, int, int] = (128, 128, 128)
    voxel_mm: float = 0.875
    num_trees: int = 1
    root_radius_mm: float = 2.5
    tip_radius_mm: float = 0.5
    length_mm: float = 700.0
    """Most vessel length of each tree."""
    spacing_mm: float = 7.0
    """Length of a branch beyond its share per radius."""
    taper_per_mm: float = 0.006
    """Relative loss of radius along a branch."""
    margin_mm: float = 1.0
    aneurysm: bool = True
    aneurysm_radius_mm: float = 4.0
    stenosis: bool = False
    motion_mm: float = 0.0
    """Largest shift of the head between the mask run and the fill run."""
    wobble_mm: float = 0.0
    """Standard deviation of the C-arm's unknown shift per frame and axis."""
    wobble_rad: float = 0.0
    """Standard deviation of the C-arm's unknown turn per frame and axis."""
    photons: float = 5e5
    """Mean count of an unattenuated pixel."""
    background: bool = True
    """Whether a head attenuates both runs."""
    subrays: int = 2
    """Rays per pixel and direction."""
    bolus: _bolus.BolusSettings = field(default_factory=_bolus.BolusSettings)


PRESETS = {
    "demo": VesselPreset(pixel_mm=0.8, spacing_mm=5.0, taper_per_mm=0.003),
    "tiny": VesselPreset(
        frames=24, width_px=64, height_px=64, pixel_mm=2.4, grid_shape=(48, 48, 48), voxel_mm=1.5,
        tip_radius_mm=1.0, length_mm=220.0, spacing_mm=5.0, aneurysm=False,
    ),
    "hard": VesselPreset(
        width_px=512, height_px=512, pixel_mm=0.6, grid_shape=(280, 280, 280), voxel_mm=0.4,
        num_trees=2, tip_radius_mm=0.3,
    ),
    "full": VesselPreset(
        width_px=960, height_px=1240, pixel_mm=0.308, grid_shape=(256, 256, 256), voxel_mm=0.5,
        num_trees=2, tip_radius_mm=0.3, stenosis=True,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class VesselPhantom:
    """A simulated recording and its truth, in mm, seconds and 1/mm; the isocentre is the origin.

    mask_run, fill_run: counts without and with contrast, (T, H, W). cameras: the true ones.
    nominal_cameras: those that the C-arm reports (equal without wobble). times_s: (T,).
    primary_rad, secondary_rad: reported gantry angles, (T,).
    projections: noise-free line integrals of the contrast, (T, H, W): minus the log of the transmitted
        intensity, averaged over each pixel.
    motion_mm: shift of the head in the fill run, (T, 3); the vessels stay.
    volume: largest attenuation over the frame times, averaged over each voxel's box. volume_mean: its
        mean over the frame times. label: (I, J, K) uint8, 1 = voxel centre inside a vessel.
    surface: the vessel wall. centreline_mm (M, 3), radius_mm, parent (-1 at roots), branch, arrival_s,
        mean_time_s, (M,): the centreline samples; empty for a given volume.
    arrival: per voxel of the label the time at which the local attenuation first reaches half of its own
        maximum over all time, s; NaN outside. mean_time: likewise the first moment of the curve in time.
    truth: the contrast as voxel shares of elements times their curves.
    world_shift_mm: added to the coordinates of a given volume to centre it, (3,). provenance: in order.
    """

    mask_run: Float32
    fill_run: Float32
    cameras: Cameras
    nominal_cameras: Cameras
    times_s: Float
    primary_rad: Float
    secondary_rad: Float
    source_to_isocentre_mm: float
    source_to_detector_mm: float
    pixel_mm: float
    projections: Float32
    motion_mm: Float
    grid: Grid
    volume: Volume
    volume_mean: Volume
    label: NDArray[np.uint8]
    surface: Mesh
    centreline_mm: Float
    radius_mm: Float
    parent: NDArray[np.int64]
    branch: NDArray[np.int64]
    arrival_s: Float
    mean_time_s: Float
    arrival: Volume
    mean_time: Volume
    world_shift_mm: Float
    provenance: tuple[str, ...]
    truth: _truth.Truth = field(repr=False)

    def density_at(self, time_s: float) -> Volume:
        """True attenuation at any time, (I, J, K) in 1/mm, averaged over each voxel's box."""
        return self.truth.dense(self.truth.occupancy @ self.truth.curves.attenuation(time_s)[0])


def _tree_settings(p: VesselPreset, number: int, half_mm: Float) -> TreeSettings:
    side = 0 if p.num_trees == 1 else (-1, 1)[number % 2]
    return TreeSettings(
        root_mm=(0.26 * side * half_mm[0], 0.03 * half_mm[1] * number, -0.88 * half_mm[2]),
        half_box_mm=(float(half_mm[0]), float(half_mm[1]), float(half_mm[2])),
        side=side,
        root_radius_mm=p.root_radius_mm,
        tip_radius_mm=p.tip_radius_mm,
        length_mm=p.length_mm,
        spacing_mm=p.spacing_mm,
        taper_per_mm=p.taper_per_mm,
        margin_mm=p.margin_mm,
        aneurysm_mm=p.aneurysm_radius_mm if p.aneurysm and number == 0 else 0.0,
        stenosis=0.6 if p.stenosis and number == 0 else 0.0,
    )


def _grow_trees(p: VesselPreset, grid: Grid, seed: int) -> Task[Tree]:
    tree = Tree()
    half = 0.97 * (grid.bounds_mm[1] - grid.bounds_mm[0]) / 2
    for number in range(p.num_trees):
        rng = np.random.default_rng([seed, 1, number])
        for share in grow(tree, _tree_settings(p, number, half), rng):
            yield Progress("grow", int(1000 * (number + share)), 1000 * p.num_trees)
    if not len(tree.points_mm):
        raise InputError(
            f"No trunk of radius {p.root_radius_mm} mm fits into the grid's box of {2 * half[2]:.0f} mm;"
            " choose a larger grid or a smaller root_radius_mm."
        )
    return tree


def _cover(p: VesselPreset, grid: Grid) -> VesselPreset:
    """The preset with a detector that sees the whole grid from every side.

    Raises:
        InputError: the grid would reach the source.
    """
    ends = np.array([[-0.5, n - 0.5] for n in grid.shape])
    corners = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    world = corners @ grid.affine_mm[:3, :3].T + grid.affine_mm[:3, 3]
    reach = float(np.linalg.norm(world[:, :2], axis=1).max())
    sad, sid = p.source_to_isocentre_mm, p.source_to_detector_mm
    if reach > min(0.6 * sad, sid - sad + 50.0):
        raise InputError(
            f"The volume reaches {reach:.0f} mm from the rotation axis, which does not fit between the source"
            f" and the detector ({sad:.0f} and {sid - sad:.0f} mm away); crop it or check its voxel size."
        )
    size = max(p.width_px, min(384, int(1.5 * max(grid.shape))))
    wide = sid * reach / np.sqrt(sad**2 - reach**2)
    tall = sid * float(np.abs(world[:, 2]).max()) / (sad - reach)
    pitch = 2.02 * max(wide, tall) / size
    return replace(
        p, width_px=size, height_px=size, pixel_mm=pitch, grid_shape=grid.shape,
        voxel_mm=float(grid.spacing_mm.min()),
    )  # fmt: skip


def _set_up(p: VesselPreset, seed: int) -> tuple[Float, Cameras, Cameras, Float]:
    """Primary angles (T,), nominal and true cameras, and the head's shift in the fill run (T, 3) mm."""
    angles = p.sweep_rad * (np.arange(p.frames) / max(p.frames - 1, 1) - 0.5)
    nominal = cone_beam(
        angles, 0.0, p.source_to_isocentre_mm, p.source_to_detector_mm, p.width_px, p.height_px,
        (p.pixel_mm, p.pixel_mm),
    )  # fmt: skip
    rng = np.random.default_rng([seed, 2])
    turn = rotation_from_vector(p.wobble_rad * rng.normal(size=(p.frames, 3)))
    shift = p.wobble_mm * rng.normal(size=(p.frames, 3))
    # Turned about the isocentre, so that a turn does not fling the object out of the image.
    middle = np.array([0.0, 0.0, p.source_to_isocentre_mm])
    wobble = rigid(turn, shift + middle - turn @ middle)
    true = nominal
    if p.wobble_mm > 0 or p.wobble_rad > 0:
        true = replace(nominal, camera_from_world=wobble @ nominal.camera_from_world)
    direction = rng.normal(size=3)
    phase = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, p.frames)
    size = p.motion_mm * (0.6 + 0.4 * np.sin(phase))
    return angles, nominal, true, size[:, None] * direction / np.linalg.norm(direction)


def _chunks(p: VesselPreset) -> Iterator[slice]:
    step = max(2, round(4 * 512**2 / (p.width_px * p.height_px)))
    step = min(step, 16)
    for start in range(0, p.frames, step):
        yield slice(start, min(start + step, p.frames))


def _project(
    p: VesselPreset, truth: _truth.Truth, elements: Float | None, cameras: Cameras, times_s: Float
) -> Task[Float32]:
    """Noise-free line integrals of the contrast, (T, H, W)."""
    out = np.zeros((p.frames, p.height_px, p.width_px), np.float32)
    if elements is not None:
        values = truth.curves.attenuation(times_s)
        for part in _chunks(p):
            yield Progress("project", part.start, p.frames)
            work = partial(_projector.project_elements, elements, values[part], cameras[part], p.subrays)
            out[part] = yield from beside("project", part.start, p.frames, work)
        return out
    peaks = truth.dense(np.asarray(truth.occupancy.sum(1)).ravel())
    marcher = _projector.VoxelProjector(peaks.values > 0, truth.grid.affine_mm)
    for frame in range(p.frames):
        yield Progress("project", frame, p.frames)
        density = truth.dense(truth.occupancy @ truth.curves.attenuation(times_s[frame])[0])
        work = partial(marcher.project, density.values, cameras[frame])
        out[frame] = yield from beside("project", frame, p.frames, work)
    return out


def _expose(
    p: VesselPreset, projections: Float32, cameras: Cameras, motion_mm: Float, seed: int
) -> Task[tuple[Float32, Float32]]:
    """Noisy counts of both runs, (T, H, W) each."""
    mask_run = np.empty_like(projections)
    fill_run = np.empty_like(projections)
    head, values = _HEAD[:, :6], _HEAD[:, 6]
    still = p.motion_mm == 0.0
    for frame in range(p.frames):
        yield Progress("expose", frame, p.frames)
        before = after = np.zeros(projections.shape[1:], np.float32)
        if p.background:
            work = partial(_projector.project_ellipsoids, head, values, cameras[frame])
            before = after = (yield from beside("expose", frame, p.frames, work))[0]
            if not still:
                moved = head + np.concatenate([motion_mm[frame], np.zeros(3)])
                after = _projector.project_ellipsoids(moved, values, cameras[frame])[0]
        rng = np.random.default_rng([seed, 3, frame])
        mask_run[frame] = rng.poisson(p.photons * np.exp(-before))
        fill_run[frame] = rng.poisson(p.photons * np.exp(-(after + projections[frame])))
    return mask_run, fill_run


def _peaks(truth: _truth.Truth, times_s: Float) -> Task[NDArray[np.float64]]:
    """Largest attenuation of every occupied voxel over the frame times, (N,) 1/mm."""
    curves = truth.curves.attenuation(times_s)
    peak = np.zeros(len(truth.voxels))
    for frame, values in enumerate(curves):
        if frame % 16 == 0:
            yield Progress("truth", frame, len(curves))
        np.maximum(peak, truth.occupancy @ values, out=peak)
    return peak


def _volumes(
    truth: _truth.Truth, label: NDArray[np.uint8], peak: NDArray[np.float64], times_s: Float
) -> dict[str, Volume]:
    """The voxel fields of a ``VesselPhantom`` that follow from its truth."""
    curves = truth.curves
    return {
        "volume": truth.dense(peak),
        "volume_mean": truth.dense(truth.occupancy @ curves.attenuation(times_s).mean(0)),
        "arrival": _truth.averages(truth, label, curves.arrival_s),
        "mean_time": _truth.averages(truth, label, curves.mean_time_s),
    }


def _chosen(preset: str | VesselPreset) -> VesselPreset:
    if isinstance(preset, VesselPreset):
        return preset
    if preset not in PRESETS:
        raise InputError(f"There is no vessel phantom {preset!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[preset]


def make_vessels(
    preset: str | VesselPreset = "demo", seed: int = 0, volume: Volume | None = None
) -> Task[VesselPhantom]:
    """A simulated DSA recording of a grown tree, or of ``volume``, and its truth.

    preset: a name in ``PRESETS`` or a preset of one's own.
    seed: the same preset and seed give bit-equal results.
    volume: a vessel mask or image (I, J, K) to use instead of a grown tree; it is centred on the
        isocentre, its brightest part becomes contrast, and the detector is enlarged to see all of it.

    Raises:
        InputError: no such preset, or a volume without vessels or too large for the C-arm.
    """
    p = _chosen(preset)
    shift = np.zeros(3)
    tree, elements = Tree(), None
    if volume is None:
        grid = Grid.centred(p.grid_shape, (p.voxel_mm, p.voxel_mm, p.voxel_mm))
        tree = yield from _grow_trees(p, grid, seed)
        flow = _bolus.tree_transport(tree, p.bolus)
        elements, samples = _truth.elements(tree)
        curves = replace(
            flow, start_s=flow.start_s[samples], rise_s=flow.rise_s[samples],
            peak_per_mm=flow.peak_per_mm[samples],
        )  # fmt: skip
        yield Progress("voxelise", 0, 1)
        truth, label = yield from beside("voxelise", 0, 1, partial(_truth.tree_truth, elements, curves, grid))
        surface = yield from _truth.tree_surface(elements, min(0.5 * p.voxel_mm, 0.5 * p.tip_radius_mm))
        arrival_s, mean_time_s = flow.arrival_s, flow.mean_time_s
        note = f"grown vessels, {tree.length_mm:.0f} mm, seed {seed}"
    else:
        check_shapes(volume=(volume.values, "I J K"), affine_mm=(volume.affine_mm, "4 4"))
        affine = np.array(volume.affine_mm, dtype=np.float64)
        shift = -(affine[:3, :3] @ ((np.array(volume.values.shape) - 1) / 2) + affine[:3, 3])
        affine[:3, 3] += shift
        grid = Grid(volume.grid.shape, affine)
        p = _cover(p, grid)
        truth, label, surface = yield from _truth.volume_truth(volume, grid, p.bolus)
        arrival_s = mean_time_s = np.zeros(0)
        note = "given volume, centred by " + ", ".join(f"{x:.2f}" for x in shift) + f" mm, seed {seed}"
    times_s = p.duration_s * np.arange(p.frames) / max(p.frames - 1, 1)
    angles, nominal, cameras, motion_mm = _set_up(p, seed)
    peak = yield from _peaks(truth, times_s)
    projections = yield from _project(p, truth, elements, cameras, times_s)
    mask_run, fill_run = yield from _expose(p, projections, cameras, motion_mm, seed)
    volumes = yield from beside("voxelise", 1, 1, partial(_volumes, truth, label, peak, times_s))
    return VesselPhantom(
        mask_run=mask_run,
        fill_run=fill_run,
        cameras=cameras,
        nominal_cameras=nominal,
        times_s=times_s,
        primary_rad=angles,
        secondary_rad=np.zeros_like(angles),
        source_to_isocentre_mm=p.source_to_isocentre_mm,
        source_to_detector_mm=p.source_to_detector_mm,
        pixel_mm=p.pixel_mm,
        projections=projections,
        motion_mm=motion_mm,
        grid=grid,
        label=label,
        surface=surface,
        centreline_mm=tree.points_mm,
        radius_mm=tree.radius_mm,
        parent=tree.parent,
        branch=tree.branch,
        arrival_s=arrival_s,
        mean_time_s=mean_time_s,
        world_shift_mm=shift,
        provenance=("simulated DSA", note),
        truth=truth,
        **volumes,
    )
