"""Branches of a centreline: their course, diameters, and a stenosis between healthy ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from splatomy_gui.measuring import Point

if TYPE_CHECKING:
    from splatomy.extract.centreline import Centreline

_REACH_MM = 2.0


@dataclass(frozen=True)
class Branch:
    """One vessel from its start to its tip. along_mm: arc length (N,). diameter_mm: (N,)."""

    number: int
    points_mm: NDArray[np.float64]
    along_mm: NDArray[np.float64]
    diameter_mm: NDArray[np.float64]

    @property
    def length_mm(self) -> float:
        """Its length."""
        return float(self.along_mm[-1])

    def at(self, along_mm: float) -> int:
        """The point nearest to an arc length."""
        return int(np.argmin(np.abs(self.along_mm - along_mm)))


@dataclass(frozen=True)
class Stenosis:
    """A narrowing between two places. at_mm: arc length of the narrowest place.

    reference_mm: the diameter expected there, linear between the medians of both healthy ends.
    percent: 100 (1 - narrowest / reference), by diameter with the healthy vessel as reference (NASCET).
    """

    at_mm: float
    narrowest_mm: float
    reference_mm: float
    length_mm: float

    @property
    def percent(self) -> float:
        """Narrowing by diameter, 0 to 100."""
        return float(np.clip(100 * (1 - self.narrowest_mm / max(self.reference_mm, 1e-9)), 0, 100))

    @property
    def percent_area(self) -> float:
        """Narrowing by area of a round lumen, 0 to 100."""
        return float(np.clip(100 * (1 - (self.narrowest_mm / max(self.reference_mm, 1e-9)) ** 2), 0, 100))


def branches_of(line: Centreline, least_points: int = 4) -> list[Branch]:
    """All branches of at least some points, the longest first."""
    found = []
    for number in range(line.num_branches):
        chain = np.flatnonzero(line.branch == number)
        if len(chain) < least_points:
            continue
        points = line.points_mm[chain]
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        found.append(Branch(number, points, along, 2 * line.radius_mm[chain]))
    return sorted(found, key=lambda branch: -branch.length_mm)


def stenosis_between(branch: Branch, first_mm: float, last_mm: float) -> Stenosis | None:
    """The narrowing between two healthy places of a branch; None where they are too near.

    The reference tapers linearly from one healthy place to the other, each the median over one diameter.
    """
    low, high = sorted((first_mm, last_mm))
    start, end = branch.at(low), branch.at(high)
    if end - start < 4:
        return None
    ends = []
    for place in (start, end):
        near = np.abs(branch.along_mm - branch.along_mm[place]) <= branch.diameter_mm[place] / 2
        ends.append(float(np.median(branch.diameter_mm[near])))
    inside = slice(start, end + 1)
    share = (branch.along_mm[inside] - branch.along_mm[start]) / max(
        branch.along_mm[end] - branch.along_mm[start], 1e-9
    )
    reference = ends[0] + share * (ends[1] - ends[0])
    ratio = branch.diameter_mm[inside] / np.maximum(reference, 1e-9)
    worst = int(np.argmin(ratio))
    return Stenosis(
        float(branch.along_mm[start + worst]),
        float(branch.diameter_mm[start + worst]),
        float(reference[worst]),
        float(branch.along_mm[end] - branch.along_mm[start]),
    )


def nearest_branch(branches: list[Branch], point_mm: NDArray[np.float64]) -> tuple[int, float]:
    """Place in the list of the branch that passes nearest to a world point, and the arc length there.

    Raises:
        ValueError: there is no branch.
    """
    gaps = [float(np.linalg.norm(b.points_mm - point_mm, axis=1).min()) for b in branches]
    place = int(np.argmin(gaps))
    branch = branches[place]
    return place, float(branch.along_mm[np.linalg.norm(branch.points_mm - point_mm, axis=1).argmin()])


def diameter_at(branches: list[Branch], point: Point) -> tuple[float, tuple[Point, Point]] | None:
    """The diameter of the vessel at a world point and two ends to draw it; None away from vessels."""
    place = np.array(point)
    number, along = nearest_branch(branches, place)
    branch = branches[number]
    index = branch.at(along)
    middle, width = branch.points_mm[index], float(branch.diameter_mm[index])
    if np.linalg.norm(middle - place) > max(width, _REACH_MM):
        return None
    before, after = max(0, index - 2), min(len(branch.points_mm) - 1, index + 2)
    course = branch.points_mm[after] - branch.points_mm[before]
    course = course / max(float(np.linalg.norm(course)), 1e-9)
    across = np.cross(course, np.eye(3)[int(np.argmin(np.abs(course)))])
    half = across / np.linalg.norm(across) * width / 2
    low, high = (middle - half).tolist(), (middle + half).tolist()
    return width, ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
