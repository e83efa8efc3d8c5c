"""What a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splatomy.checks import check_shapes
from splatomy.scene import Volume

RESEARCH_USE = "Research use only. Not a medical device."

Curve = tuple[str, NDArray[np.floating], NDArray[np.floating]]
"""A name, times_s (T,) and values_per_mm (T,)."""
View = tuple[str, NDArray[np.floating], NDArray[np.floating]]
"""A caption, the measured image (H, W) and the rendered one."""


@dataclass(frozen=True)
class TissueView:
    """One frame. observed, rendered: (H, W, 3) in [0, 1]. hidden: (H, W), True = behind an instrument.

    depth: (H, W), NaN = none. evidence: (H, W) in [0, 1], the share of real observations, or None.
    synthetic: (H, W), True = shown by no frame and made up, or None where that is not known.
    """

    caption: str
    observed: NDArray[np.floating]
    rendered: NDArray[np.floating]
    hidden: NDArray[np.bool_]
    depth: NDArray[np.floating]
    evidence: NDArray[np.floating] | None = None
    synthetic: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        check_shapes(
            observed=(self.observed, "H W 3"),
            rendered=(self.rendered, "H W 3"),
            hidden=(self.hidden, "H W"),
            depth=(self.depth, "H W"),
        )


@dataclass(frozen=True)
class DeformationView:
    """Vertices of the moved surface as a camera sees them.

    pixels: (V, 2), NaN = behind the camera. distance: (V,) from the reference, in the scene's unit.
    """

    caption: str
    pixels: NDArray[np.floating]
    distance: NDArray[np.floating]
    width_px: int
    height_px: int


@dataclass(frozen=True)
class SurfaceView:
    """One view of a still scene. recorded, rendered: (H, W, 3) in [0, 1]. depth: (H, W), NaN = none.

    hidden: (H, W), True = something stands before the scene. synthetic: (H, W), True = made up, or None.
    """

    caption: str
    recorded: NDArray[np.floating]
    rendered: NDArray[np.floating]
    depth: NDArray[np.floating]
    hidden: NDArray[np.bool_]
    synthetic: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        check_shapes(
            recorded=(self.recorded, "H W 3"),
            rendered=(self.rendered, "H W 3"),
            depth=(self.depth, "H W"),
            hidden=(self.hidden, "H W"),
        )


@dataclass(frozen=True)
class MeshSide:
    """A mesh from one side. texture, evidence: (H, W, 3) shaded pictures in [0, 1], NaN = nothing there."""

    name: str
    texture: NDArray[np.floating]
    evidence: NDArray[np.floating]


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows; what is empty or None is left out of it.

    settings: name -> value, with its unit where one is known.
    metric: False forbids every millimetre label.
    synthetic_text: what is invented and not observed, in one sentence.
    metrics: key of the contract -> value, None = not defined for this run.
    peer_metrics: name of another method -> its metrics on the same input.
    volume: mean over time. threshold_per_mm: the level that made the label.
    label, truth_label: (I, J, K) uint8, 1 = vessel. arrival_s, peak_s, transit_s: (I, J, K), NaN = unknown.
    points_mm: centreline, (M, 3). radius_mm: (M,).
    image_curves: measured in the pictures themselves, dimensionless line integrals.
    tissue_views, deformation: of endoscopic clips.
    surface_views, mesh_sides, mesh_figures (name -> value with its unit): of still scenes.
    """

    title: str
    method_title: str
    citation: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    input_summary: Mapping[str, str] = field(default_factory=dict)
    world: str = "isocentre as LPS"
    metric: bool = True
    provenance: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    synthetic_text: str = "Nothing was invented: every value comes from observed pixels."
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    peer_metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float | None = None
    seed: int | None = None
    device: str = ""
    software_version: str = ""
    loss_curve: Sequence[tuple[int, float]] = ()
    volume: Volume | None = None
    threshold_per_mm: float | None = None
    label: NDArray[np.uint8] | None = None
    truth_label: NDArray[np.uint8] | None = None
    points_mm: NDArray[np.floating] | None = None
    radius_mm: NDArray[np.floating] | None = None
    arrival_s: NDArray[np.floating] | None = None
    peak_s: NDArray[np.floating] | None = None
    transit_s: NDArray[np.floating] | None = None
    curves: Sequence[Curve] = ()
    image_curves: Sequence[Curve] = ()
    views: Sequence[View] = ()
    tissue_views: Sequence[TissueView] = ()
    deformation: DeformationView | None = None
    surface_views: Sequence[SurfaceView] = ()
    mesh_sides: Sequence[MeshSide] = ()
    mesh_figures: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    research_use: str = RESEARCH_USE

    def __post_init__(self) -> None:
        named: dict[str, tuple[Any, str]] = {}
        if self.volume is not None:
            named["volume"] = (self.volume.values, "I J K")
        for name in ("label", "truth_label", "arrival_s", "peak_s", "transit_s"):
            array = getattr(self, name)
            if array is not None:
                if self.volume is None:
                    raise ValueError(f"{name} needs the volume whose voxels it describes")
                named[name] = (array, "I J K")
        if (self.points_mm is None) != (self.radius_mm is None):
            raise ValueError("points_mm and radius_mm are given together or not at all")
        if self.points_mm is not None and self.radius_mm is not None:
            named["points_mm"] = (self.points_mm, "M 3")
            named["radius_mm"] = (self.radius_mm, "M")
        check_shapes(**named)
        for caption, measured, rendered in self.views:
            check_shapes(**{f"measured image {caption!r}": (measured, "H W"), "rendered": (rendered, "H W")})
        for name, times_s, values in (*self.curves, *self.image_curves):
            check_shapes(**{f"times of curve {name!r}": (times_s, "T"), "values": (values, "T")})
