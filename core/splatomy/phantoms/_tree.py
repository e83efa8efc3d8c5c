"""A grown arterial tree: tortuous tapering branches that obey Murray's law and never collide.

Source: Murray, PNAS 12 (1926) for the radii at a bifurcation; the growth itself (thickest tip
first, steering towards the emptiest reachable place) is ours.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class TreeSettings:
    """How one tree grows; lengths in mm, angles in radians."""

    root_mm: tuple[float, float, float]
    half_box_mm: tuple[float, float, float]
    """Half axes of the super-ellipsoid about the origin that holds every vessel wall."""
    side: int = 0
    """-1 or 1 steers the tree to that side of x = 0; 0 uses the whole domain."""
    root_radius_mm: float = 2.5
    tip_radius_mm: float = 0.5
    length_mm: float = 700.0
    """No branch starts once the tree is this long."""
    spacing_per_radius: float = 14.0
    """Mean length of a branch per radius at its start, before ``spacing_mm`` is added."""
    spacing_mm: float = 7.0
    taper_per_mm: float = 0.006
    tortuosity: float = 0.11
    """Typical bend of the centreline, radians per mm, at thin branches; thick ones bend half as much."""
    step_mm: float = 0.5
    margin_mm: float = 1.0
    """Least gap between the walls of branches that do not meet."""
    aneurysm_mm: float = 0.0
    """Radius of an aneurysm on a proximal branch; 0 = none."""
    stenosis: float = 0.0
    """Largest relative loss of radius in the middle of one long branch; 0 = none."""


@dataclass
class Tree:
    """Centreline samples of one or more trees.

    points_mm: (M, 3). radius_mm: (M,). parent: (M,) int64, -1 at roots.
    branch: (M,) int64 branch number. branch_parent: (B,) int64, -1 at roots.
    sac: (M,) bool, True = the centre of an aneurysm (a sphere, not a piece of tube).

    The first sample of a branch lies on the last sample of its parent branch but has the child's
    own radius, so Murray's law can be read off directly.
    """

    points_mm: Float = field(default_factory=lambda: np.zeros((0, 3)))
    radius_mm: Float = field(default_factory=lambda: np.zeros(0))
    parent: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    branch: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    branch_parent: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    sac: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def length_mm(self) -> float:
        """Summed centreline length, aneurysms left out."""
        has = (self.parent >= 0) & ~self.sac
        return float(np.linalg.norm(self.points_mm[has] - self.points_mm[self.parent[has]], axis=1).sum())

    def append(self, points: Float, radii: Float, parent: int, branch_parent: int, sac: bool = False) -> int:
        """Add one branch whose first sample hangs on sample ``parent``; returns its number."""
        start, number = len(self.points_mm), len(self.branch_parent)
        links = np.arange(start - 1, start + len(points) - 1)
        links[0] = parent
        self.points_mm = np.concatenate([self.points_mm, points])
        self.radius_mm = np.concatenate([self.radius_mm, radii])
        self.parent = np.concatenate([self.parent, links])
        self.branch = np.concatenate([self.branch, np.full(len(points), number)])
        self.branch_parent = np.concatenate([self.branch_parent, [branch_parent]])
        self.sac = np.concatenate([self.sac, np.full(len(points), sac)])
        return number


def _unit(v: Float) -> Float:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12))


def _inside(points: Float, radii: Float | float, s: TreeSettings) -> NDArray[np.bool_]:
    """Whether spheres lie in the super-ellipsoid of power four, (N,)."""
    half = np.asarray(s.half_box_mm)[None] - np.asarray(radii).reshape(-1, 1)
    return np.asarray(((points / half) ** 4).sum(1) <= 1.0)


def _target(tree: Tree, start: Float, heading: Float, s: TreeSettings, rng: np.random.Generator) -> Float:
    """A far and empty place ahead, (3,) mm."""
    places = rng.uniform(-1, 1, (48, 3)) * np.asarray(s.half_box_mm)
    if s.side:
        places[:, 0] = s.side * np.abs(places[:, 0])
    places = places[_inside(places, 1.0, s)]
    offset = places - start
    away = np.linalg.norm(offset, axis=1)
    cosine = _unit(offset) @ heading
    gaps = np.linalg.norm(places[:, None] - tree.points_mm[None, ::4], axis=2)
    empty = gaps.min(1) if gaps.shape[1] else away
    # A near target would make the branch circle it; one behind would make it turn back.
    score = empty + 12.0 * cosine - np.where(away < 12.0, 40.0, 0.0)
    return np.asarray(places[np.argmax(score)])


def _walk(
    start: Float,
    heading: Float,
    target: Float,
    length: float,
    bend: float,
    s: TreeSettings,
    rng: np.random.Generator,
) -> Float:
    """A persistent random walk towards the target, (n, 3) mm, whose first sample is ``start``."""
    n = max(3, round(length / s.step_mm))
    # Noise with a correlation length of some millimetres gives bends, not jitter.
    kicks = rng.normal(size=(n, 3))
    width = max(1, round(4.0 / s.step_mm))
    kernel = np.exp(-0.5 * (np.arange(-2 * width, 2 * width + 1) / width) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    smooth = np.stack([np.convolve(np.pad(k, 2 * width, "wrap"), kernel, "valid") for k in kicks.T], 1)
    points = np.empty((n + 1, 3))
    points[0] = start
    direction = heading
    pull_per_mm = 0.05
    for i in range(n):
        pull = _unit(target - points[i])
        direction = _unit(direction + s.step_mm * (pull_per_mm * pull + bend * smooth[i]))
        points[i + 1] = points[i] + s.step_mm * direction
    return points


def _collides(tree: Tree, points: Float, radii: Float, parent: int, s: TreeSettings) -> bool:
    """Whether a new branch comes too near to others, to itself, or leaves the domain."""
    if not _inside(points, radii, s).all():
        return True
    gaps = np.linalg.norm(points[:, None] - points[None], axis=2)
    apart = np.abs(np.arange(len(points))[:, None] - np.arange(len(points))[None]) * s.step_mm
    if ((gaps < radii[:, None] + radii[None] + s.margin_mm) & (apart > 12.0 * radii[0] + 4.0)).any():
        return True
    if not len(tree.points_mm):
        return False
    gaps = np.linalg.norm(points[:, None] - tree.points_mm[None], axis=2)
    limit = radii[:, None] + tree.radius_mm[None] + s.margin_mm
    if parent >= 0:
        # Near the junction the branches meet by design: there only turning back is forbidden.
        joint = tree.points_mm[parent]
        reach = 2.5 * tree.radius_mm[parent] + 2.0 * s.margin_mm
        near = np.linalg.norm(points - joint, axis=1) < reach
        beside = np.linalg.norm(tree.points_mm - joint, axis=1) < reach
        limit = np.where(near[:, None] & beside[None], 0.0, limit)
    return bool((gaps < limit).any())


def _branch(
    tree: Tree, parent: int, radius: float, heading: Float, s: TreeSettings, rng: np.random.Generator
) -> tuple[Float, Float] | None:
    """Points (n, 3) and radii (n,) of a free branch, or None when every try collides."""
    start = np.asarray(s.root_mm) if parent < 0 else tree.points_mm[parent]
    wanted = (s.spacing_mm + s.spacing_per_radius * radius) * rng.uniform(0.75, 1.3)
    last = radius < s.tip_radius_mm * 2 ** (1 / 3) * 1.05
    if last:
        wanted = max(wanted, 12.0)
    for attempt in range(24):
        length = wanted * (1.0 - 0.6 * attempt / 24)
        tilt = _unit(heading + rng.normal(scale=0.02 + 0.02 * attempt, size=3))
        bend = s.tortuosity * (1.0 - 0.5 * radius / s.root_radius_mm)
        # The trunk rises to the middle; branches look for room.
        target = np.array([0.5, 0.5, 0.0]) * start if parent < 0 else _target(tree, start, tilt, s, rng)
        points = _walk(start, tilt, target, length, bend, s, rng)
        distance = np.arange(len(points)) * s.step_mm
        radii = np.maximum(radius * np.exp(-s.taper_per_mm * distance), s.tip_radius_mm)
        if not _collides(tree, points, radii, parent, s):
            return points, radii
    return None


def _split(radius: float, s: TreeSettings, rng: np.random.Generator) -> tuple[float, float] | None:
    """Radii of two children by Murray's law, the larger first, or None for a tip."""
    least = s.tip_radius_mm / radius
    if 2 * least**3 > 1.0:
        return None
    share = rng.uniform(max(least**3, 0.15), 0.5)
    return radius * (1 - share) ** (1 / 3), radius * share ** (1 / 3)


def _fork(
    tree: Tree, joint: int, radii: tuple[float, float], s: TreeSettings, rng: np.random.Generator
) -> list[int]:
    """Add both children at a joint, or one straight continuation when two find no room."""
    number = int(tree.branch[joint])
    heading = _unit(tree.points_mm[joint] - tree.points_mm[joint - 3])
    for _ in range(6):
        side = _unit(np.cross(heading, rng.normal(size=3)))
        # The thinner child turns further (Murray's minimum-work angles, coarsely).
        ratio = radii[1] / radii[0]
        small, large = 1.0 - 0.35 * ratio, 0.25 + 0.4 * ratio
        first = _branch(tree, joint, radii[0], _unit(heading + np.tan(0.6 * large) * side), s, rng)
        if first is None:
            continue
        trial = Tree(**vars(tree))
        trial.append(*first, joint, number)
        second = _branch(trial, joint, radii[1], _unit(heading - np.tan(small) * side), s, rng)
        if second is not None:
            return [tree.append(*first, joint, number), tree.append(*second, joint, number)]
    only = _branch(tree, joint, float(tree.radius_mm[joint]), heading, s, rng)
    return [] if only is None else [tree.append(*only, joint, number)]


def _add_aneurysm(tree: Tree, host: int, s: TreeSettings, rng: np.random.Generator) -> bool:
    """Hang a sphere on the side of a branch where it touches nothing else."""
    samples = np.flatnonzero(tree.branch == host)
    others = np.flatnonzero(tree.branch != host)
    for attempt in range(60):
        size = s.aneurysm_mm * (1.0 - 0.3 * attempt / 60)
        at = int(samples[int(len(samples) * rng.uniform(0.35, 0.75))])
        along = _unit(tree.points_mm[at] - tree.points_mm[at - 1])
        side = _unit(np.cross(along, rng.normal(size=3)))
        centre = tree.points_mm[at] + side * (tree.radius_mm[at] + 0.7 * size)
        gap = np.linalg.norm(tree.points_mm[others] - centre, axis=1) - tree.radius_mm[others]
        if (not len(gap) or gap.min() > size + s.margin_mm) and _inside(centre[None], size, s).all():
            tree.append(centre[None], np.array([size]), at, host, sac=True)
            return True
    return False


def _add_stenosis(tree: Tree, branches: list[int], s: TreeSettings) -> None:
    """Narrow the middle of the thickest branch that is at least 16 mm long."""
    long = [b for b in branches if (tree.branch == b).sum() * s.step_mm >= 16.0]
    for b in long[1:2] or long[:1]:
        samples = np.flatnonzero(tree.branch == b)
        distance = (np.arange(len(samples)) - len(samples) / 2) * s.step_mm
        tree.radius_mm[samples] *= 1.0 - s.stenosis * np.exp(-0.5 * (distance / 1.5) ** 2)


def grow(tree: Tree, s: TreeSettings, rng: np.random.Generator) -> Iterator[float]:
    """Grow one more tree into ``tree`` in place; yields the share done after every branching."""
    root = _branch(tree, -1, s.root_radius_mm, np.array([0.0, 0.0, 1.0]), s, rng)
    if root is None:
        return
    before = tree.length_mm
    branches = [tree.append(*root, -1, -1)]
    tips = [(-float(root[1][-1]), branches[0])]
    sac_due = s.aneurysm_mm > 0
    while tips and tree.length_mm - before < s.length_mm:
        _, number = heapq.heappop(tips)
        joint = int(np.flatnonzero(tree.branch == number)[-1])
        radii = _split(float(tree.radius_mm[joint]), s, rng)
        if radii is None:
            continue
        grown = _fork(tree, joint, radii, s, rng)
        branches += grown
        for b in grown:
            heapq.heappush(tips, (-float(tree.radius_mm[tree.branch == b][-1]), b))
        if sac_due and len(branches) >= 5:
            # Before the fine branches grow, so that they leave it room.
            sac_due = not any(_add_aneurysm(tree, b, s, rng) for b in branches[1:5])
        yield min(1.0, (tree.length_mm - before) / s.length_mm)
    if s.stenosis > 0:
        _add_stenosis(tree, branches, s)
