"""What ``inspect`` tells of an angiographic input, for people and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ViewReport:
    """One run of an inspected input; distances in mm, angles in degrees as (low, high)."""

    layout: str
    frames: int
    width_px: int
    height_px: int
    pixel_mm: tuple[float, float] | None
    duration_s: float | None
    primary_deg: tuple[float, float] | None
    secondary_deg: tuple[float, float] | None
    source_to_isocentre_mm: float | None
    source_to_detector_mm: float | None
    mask: str
    intensity: str
    geometry_source: str


@dataclass(frozen=True)
class Lack:
    """What a reconstruction needs and runs do not have; the options that can give it, and which runs."""

    what: str
    options: tuple[str, ...]
    views: tuple[int, ...]


@dataclass(frozen=True)
class DsaReport:
    """What an input is and what is wrong with it; holds nothing that identifies a patient."""

    kind: str
    views: tuple[ViewReport, ...]
    problems: tuple[str, ...]
    usable: bool
    patient_fields: bool = False
    lacking: tuple[Lack, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The report as a JSON object of the command line's contract."""
        views = [dict(vars(view)) for view in self.views]
        return {
            "contract": 1,
            "kind": self.kind,
            "usable": self.usable,
            "views": views,
            "problems": list(self.problems),
            "lacking": [
                {"what": lack.what, "options": list(lack.options), "views": list(lack.views)}
                for lack in self.lacking
            ],
            "patient_fields": "present: not shown" if self.patient_fields else "none",
        }

    def lines(self) -> list[str]:
        """The report for people, one fact a line."""
        usable = (
            "no"
            if not self.usable
            else "yes, but not for a reconstruction as it is"
            if self.lacking
            else "yes"
        )
        out = [f"kind: {self.kind}", f"usable: {usable}"]
        for number, v in enumerate(self.views):
            if len(self.views) > 1:
                out.append(f"view {number}:")
            out.append(f"layout: {v.layout}")
            out.append(f"frames: {v.frames} of {v.width_px} x {v.height_px} pixels (width x height)")
            out.append(f"pixel size: {_pair(v.pixel_mm, 'mm', ' x ')}")
            out.append("duration: " + ("unknown" if v.duration_s is None else f"{v.duration_s:.2f} s"))
            out.append(f"primary angle: {_pair(v.primary_deg, 'degrees', ' to ')}")
            out.append(f"secondary angle: {_pair(v.secondary_deg, 'degrees', ' to ')}")
            out.append(f"source to isocentre: {_one(v.source_to_isocentre_mm)}")
            out.append(f"source to detector: {_one(v.source_to_detector_mm)}")
            out.append(f"geometry from: {v.geometry_source}")
            out.append(f"mask: {v.mask}")
            out.append(f"intensity: {v.intensity}")
        if self.patient_fields:
            out.append("patient fields present: not shown")
        for lack in self.lacking:
            some = 0 < len(lack.views) < len(self.views)
            where = f" of view {', '.join(map(str, lack.views))}" if some else ""
            give = f"; give it with {' or '.join(lack.options)}" if lack.options else ""
            out.append(f"lacking for a reconstruction: {lack.what}{where}{give}")
        out += [f"note: {p}" if self.usable else f"problem: {p}" for p in self.problems]
        return out


def _pair(pair: tuple[float, float] | None, unit: str, between: str) -> str:
    if pair is None:
        return "unknown"
    # Rounded before, and plus zero, so that the rest of a rotation shows as neither 1e-15 nor -0.
    low, high = (round(value, 6) + 0.0 for value in pair)
    return f"{low:.4g}{between}{high:.4g} {unit}"


def _one(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} mm"
