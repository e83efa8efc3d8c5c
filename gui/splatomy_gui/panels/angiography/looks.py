"""Looks of a volume rendering: what people know from vessel imaging, as colours and opacity curves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from splatomy.extract.threshold import Levels

Point = tuple[float, float]
"""A value and its opacity in [0, 1]."""


@dataclass(frozen=True)
class Preset:
    """A look. colours: (share of the way from background to lumen, RGB in [0, 1]).

    curve: the opacity points for the volume's levels. blending: "composite", or "maximum" for a MIP.
    background: RGB, or None for the theme's. unit_share: the depth that an opacity is for, as a share of the
    volume's longest edge; larger = more transparent.
    """

    name: str
    tip: str
    colours: tuple[tuple[float, tuple[float, float, float]], ...]
    curve: Callable[[Levels], tuple[Point, ...]]
    blending: str = "composite"
    shaded: bool = False
    background: tuple[float, float, float] | None = None
    unit_share: float = 0.004


def _between(levels: Levels, share: float) -> float:
    return levels.background + share * (levels.lumen - levels.background)


def _wall(levels: Levels) -> tuple[Point, ...]:
    """Clear up to the wall, nearly solid from it on."""
    edge = max(levels.threshold, levels.floor)
    span = levels.lumen - levels.background
    return (
        (levels.background, 0.0),
        (edge - 0.18 * span, 0.0),
        (edge, 0.35),
        (levels.lumen, 0.9),
        (levels.lumen + span, 1.0),
    )


def _soft(levels: Levels) -> tuple[Point, ...]:
    """Slow ramp from the noise up: faint vessels glow."""
    span = levels.lumen - levels.background
    start = max(levels.floor, _between(levels, 0.15))
    return ((start, 0.0), (_between(levels, 0.5), 0.18), (levels.lumen, 0.5), (levels.lumen + span, 0.9))


def _linear(levels: Levels) -> tuple[Point, ...]:
    start = _between(levels, 0.1)
    return ((start, 0.0), (levels.lumen, 0.75), (_between(levels, 1.5), 1.0))


def _absorbing(levels: Levels) -> tuple[Point, ...]:
    """In proportion to the value, as X-rays are absorbed."""
    return ((_between(levels, 0.08), 0.0), (_between(levels, 2.0), 0.6))


def _without_bone(levels: Levels) -> tuple[Point, ...]:
    """As the wall, but what is much denser than filled vessels is left out."""
    top = _between(levels, 1.45)
    kept = tuple(point for point in _wall(levels) if point[0] < top)
    return (*kept, (top, 0.9), (_between(levels, 1.7), 0.0))


_RED = (
    (0.0, (0.25, 0.02, 0.02)),
    (0.5, (0.72, 0.08, 0.07)),
    (1.0, (0.91, 0.32, 0.25)),
    (1.8, (1.0, 0.80, 0.72)),
)
_FIRE = (
    (0.0, (0.0, 0.0, 0.0)),
    (0.35, (0.55, 0.03, 0.0)),
    (0.7, (0.95, 0.40, 0.02)),
    (1.1, (1.0, 0.80, 0.20)),
    (1.8, (1.0, 1.0, 0.9)),
)
_GREY = ((0.0, (0.0, 0.0, 0.0)), (1.3, (1.0, 1.0, 1.0)))
_BLACK = ((0.0, (0.02, 0.02, 0.03)), (2.0, (0.02, 0.02, 0.03)))

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("Vessel red", "Shaded red vessels, as an anatomist draws them", _RED, _wall, shaded=True),
        Preset("Vessel fire", "Glowing vessels: faint ones red, well filled ones white", _FIRE, _soft),
        Preset("DSA white", "Brightest value on each line (MIP), on black", _GREY, _linear, "maximum"),
        Preset(
            "X-ray look",
            "Dark vessels on a bright field, absorbed as X-rays are",
            _BLACK,
            _absorbing,
            background=(0.93, 0.94, 0.95),
            unit_share=0.01,
        ),
        Preset(
            "Bone hidden",
            "Shaded red vessels; bone, clips and other dense things are left out",
            _RED,
            _without_bone,
            shaded=True,
        ),
    )
}


@dataclass(frozen=True)
class Look:
    """What the person chose. preset: a name in ``PRESETS``. points: the opacity curve, values rising."""

    preset: str
    points: tuple[Point, ...]

    @staticmethod
    def of(name: str, levels: Levels) -> Look:
        """A preset with its own curve for a volume."""
        return Look(name, PRESETS[name].curve(levels))
