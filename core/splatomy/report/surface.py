"""Pictures of a still surface: recorded against rendered views, and the mesh from several sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splatomy.report.data import MeshSide, SurfaceView
from splatomy.report.pictures import DARK_TEXT, Picture, Units, dark_figure, finished

_HIDDEN, _SYNTHETIC = "#ffd166", "#ff3df2"
_MAX_VIEWS = 4
_GROUND = (13 / 255, 15 / 255, 18 / 255)
_DIFFERENCE = 0.25


def surface_pictures(views: Sequence[SurfaceView], units: Units) -> list[Picture]:
    """One row of panels for each view: recorded, rendered, their difference, depth."""
    shown = views[:_MAX_VIEWS]
    joined = np.concatenate([np.zeros(0), *(v.depth[np.isfinite(v.depth)] for v in shown)])
    # One scale for all rows, or the depths could not be compared.
    low, high = (float(v) for v in np.percentile(joined, [1, 99])) if joined.size else (0.0, 1.0)
    return [_row(view, low, max(high, low + 1e-9), units) for view in shown]


def _row(view: SurfaceView, low: float, high: float, units: Units) -> Picture:
    height, width = view.hidden.shape
    figure = dark_figure(11.4, 11.4 / 4 * height / width + 1.05)
    axes = figure.subplots(1, 4)
    for ax in axes:
        ax.set_axis_off()
        ax.set_anchor("N")
    axes[0].imshow(view.recorded.clip(0, 1))
    title = "recorded"
    if view.hidden.any():
        _outline(axes[0], view.hidden, _HIDDEN)
        title = "recorded (yellow: hidden)"
    axes[0].set_title(title, color=DARK_TEXT, fontsize=9)
    axes[1].imshow(view.rendered.clip(0, 1))
    title = "rendered"
    if view.synthetic is not None and view.synthetic.any():
        _outline(axes[1], view.synthetic, _SYNTHETIC)
        title = "rendered (magenta: made up)"
    axes[1].set_title(title, color=DARK_TEXT, fontsize=9)
    error = np.abs(np.asarray(view.rendered, np.float64) - view.recorded).mean(-1)
    error[view.hidden] = np.nan
    shown = axes[2].imshow(error, cmap="magma", vmin=0, vmax=_DIFFERENCE)
    axes[2].set_title("difference", color=DARK_TEXT, fontsize=9)
    _bar(figure, shown, axes[2], "mean over colours, of full brightness")
    depth = axes[3].imshow(view.depth, cmap="viridis_r", vmin=low, vmax=high, interpolation="nearest")
    axes[3].set_title("depth", color=DARK_TEXT, fontsize=9)
    _bar(figure, depth, axes[3], f"depth ({units.length})")
    alt = f"Recorded and rendered picture, their difference, and depth: {view.caption}"
    return finished(figure, alt, view.caption, "scan")


def side_pictures(sides: Sequence[MeshSide]) -> list[Picture]:
    """The mesh from all sides: its colours above, how far it was really seen below."""
    if not sides:
        return []
    count = len(sides)
    figure = dark_figure(11.4, 11.4 / count * 2 + 0.3)
    axes = figure.subplots(2, count, squeeze=False)
    for column, side in enumerate(sides):
        for row, picture in enumerate((side.texture, side.evidence)):
            ax = axes[row][column]
            ax.imshow(np.where(np.isfinite(picture), picture, _GROUND))
            ax.set_axis_off()
        axes[0][column].set_title(side.name, color=DARK_TEXT, fontsize=9)
    caption = (
        "The mesh from several sides. Above: its colours. Below: what many views show (blue), what few do "
        "(grey), and what none does (orange)."
    )
    return [finished(figure, "The mesh from several sides, by colour and by evidence", caption, "scan")]


def _outline(ax: Any, mask: Any, colour: str) -> None:
    if mask.any() and not mask.all():
        ax.contour(mask.astype(float), levels=[0.5], colors=colour, linewidths=0.9)


def _bar(figure: Any, shown: Any, ax: Any, label: str) -> None:
    bar = figure.colorbar(shown, ax=ax, orientation="horizontal", pad=0.02, aspect=28, panchor=False)
    bar.set_label(label, color=DARK_TEXT, fontsize=8)
    bar.ax.tick_params(colors=DARK_TEXT, labelsize=7)
    bar.outline.set_visible(False)
