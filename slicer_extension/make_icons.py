"""Draws the extension's icons; run it again after a change: ``python slicer_extension/make_icons.py``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).resolve().parent
DARK, RED, PALE, TOOL, WAVE = "#1f2a38", "#d6322b", "#f3c9b5", "#b9c6d3", "#39b5d8"


def _canvas(width: int, height: int) -> tuple[plt.Figure, Axes]:
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width / height)
    axes.set_ylim(0, 1)
    axes.axis("off")
    return figure, axes


def vessels(axes: Axes, centre: float = 0.5, size: float = 1.0) -> None:
    """A vessel that divides twice, in colours of time."""
    colours = plt.get_cmap("autumn")

    def grow(x: float, y: float, angle: float, length: float, width: float, depth: int) -> None:
        along = np.linspace(0, 1, 20)
        bent = angle + 0.5 * (along - 0.5) * (1 if depth % 2 else -1)
        xs = x + np.cumsum(np.cos(bent)) * length / 20
        ys = y + np.cumsum(np.sin(bent)) * length / 20
        tone = colours(0.05 + 0.28 * depth)
        axes.plot(xs, ys, color=tone, linewidth=width, solid_capstyle="round", zorder=5 - depth)
        if depth < 3:
            for turn in (-0.55, 0.5):
                grow(xs[-1], ys[-1], angle + turn, length * 0.72, width * 0.62, depth + 1)

    grow(centre, 0.06, np.pi / 2, 0.30 * size, 11 * size, 0)


def tissue(axes: Axes, width: float) -> None:
    """A wavy surface with dots, and an instrument whose shadow is seen through."""
    xs = np.linspace(0, width, 200)
    for level, tone in ((0.52, "#c9483f"), (0.40, "#dd6a58"), (0.27, "#eb9c86"), (0.14, PALE)):
        axes.fill_between(xs, 0, level + 0.05 * np.sin(7 * xs + 9 * level), color=tone, linewidth=0)
    generator = np.random.default_rng(4)
    axes.scatter(
        generator.uniform(0.05, width - 0.05, 40), generator.uniform(0.08, 0.45, 40), s=5, color="white"
    )
    tip = np.array([0.52 * width, 0.40])
    axes.plot(
        [0.95 * width, tip[0]], [0.98, tip[1]], color=TOOL, linewidth=9, solid_capstyle="butt", zorder=4
    )
    axes.plot(
        [0.95 * width, tip[0]], [0.98, tip[1]], color=WAVE, linewidth=11, linestyle=(0, (1, 1)), alpha=0.5
    )
    for turn in (-0.10, 0.10):
        axes.plot([tip[0], tip[0] - 0.14], [tip[1], tip[1] - 0.10 + turn], color=TOOL, linewidth=5)


def surface(axes: Axes, width: float) -> None:
    """A ball of facets with an invented part, and the cameras that look at it."""
    middle, radius = np.array([width / 2, 0.46]), 0.30
    light = np.array([-0.5, 0.6, 0.62])
    levels = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
    turns = np.linspace(0, np.pi, 12)
    for low, high in pairwise(levels):
        for left, right in pairwise(turns):
            corners = [(low, left), (low, right), (high, right), (high, left)]
            ball = np.array([(np.cos(b) * np.cos(a), np.sin(b), np.cos(b) * np.sin(a)) for b, a in corners])
            shade = float(np.clip(ball.mean(0) @ light, 0, 1))
            invented = ball[:, 0].mean() > 0.35 and ball[:, 1].mean() < 0.1
            base = np.array([0.9, 0.0, 0.9] if invented else [0.98, 0.80, 0.68])
            tone = tuple(np.clip(base * (0.5 + 0.5 * shade), 0, 1))
            axes.fill(*(middle + radius * ball[:, :2]).T, facecolor=tone, edgecolor=DARK, linewidth=0.6)
    for angle in (0.75, 1.57, 2.39):
        towards = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-towards[1], towards[0]])
        eye = middle + 0.46 * towards
        corners = [eye, eye - 0.09 * towards + 0.06 * across, eye - 0.09 * towards - 0.06 * across]
        axes.fill(*np.array(corners).T, color=WAVE, linewidth=0)


def _background(axes: Axes, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (0.04, 0.04),
        width - 0.08,
        0.92,
        boxstyle="round,pad=0.02,rounding_size=0.12",
        color=DARK,
        linewidth=0,
    )
    axes.add_patch(box)


def _save(figure: plt.Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def _icon(path: Path, size: int, *drawings: str) -> None:
    figure, axes = _canvas(size, size)
    _background(axes, 1.0)
    clip = axes.patches[-1]
    if "tissue" in drawings:
        tissue(axes, 1.0)
    if "vessels" in drawings:
        vessels(axes)
    if "surface" in drawings:
        surface(axes, 1.0)
    for artist in (*axes.collections, *axes.lines):
        artist.set_clip_path(clip)
    _save(figure, path)


def _thumbnail(path: Path, what: str) -> None:
    """A picture for the module Sample Data, 260 x 280."""
    figure, axes = _canvas(260, 280)
    width = 260 / 280
    figure.patch.set_facecolor(DARK)
    axes.add_patch(plt.Rectangle((0, 0), width, 1, color=DARK))
    if what == "tissue":
        tissue(axes, width)
    elif what == "surface":
        surface(axes, width)
    else:
        vessels(axes, width / 2, 1.05)
    _save(figure, path)


def main() -> None:
    """Writes every icon."""
    _icon(HERE / "Splatomy.png", 128, "vessels")
    icons = "Resources/Icons"
    _icon(HERE / "SplatomyAngiography" / icons / "SplatomyAngiography.png", 128, "vessels")
    _icon(HERE / "SplatomyEndoscopy" / icons / "SplatomyEndoscopy.png", 128, "tissue")
    _icon(HERE / "SplatomyReaders" / icons / "SplatomyReaders.png", 128, "vessels")
    _thumbnail(HERE / "SplatomyReaders" / icons / "SplatomyClip.png", "tissue")
    _icon(HERE / "SplatomySurface" / icons / "SplatomySurface.png", 128, "surface")
    _thumbnail(HERE / "SplatomyReaders" / icons / "SplatomyRun.png", "vessels")
    _thumbnail(HERE / "SplatomyReaders" / icons / "SplatomyObject.png", "surface")


if __name__ == "__main__":
    main()
