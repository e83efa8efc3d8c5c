"""Pictures of deforming tissue: what was recorded, what was made of it, and how far it is to be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from splatomy.report.data import DeformationView, TissueView
from splatomy.report.pictures import DARK_TEXT, Picture, Units, dark_figure, finished

_HIDDEN, _SYNTHETIC = "#ffd166", "#ff3df2"
_MAX_VIEWS = 4


def tissue_pictures(views: Sequence[TissueView], units: Units) -> list[Picture]:
    """One row of panels for each view."""
    shown = views[:_MAX_VIEWS]
    known = [v.depth[np.isfinite(v.depth)] for v in shown]
    joined = np.concatenate([np.zeros(0), *known])
    # One scale for all rows, or the depths could not be compared.
    low, high = (float(v) for v in np.percentile(joined, [1, 99])) if joined.size else (0.0, 1.0)
    return [_row(view, low, max(high, low + 1e-6), units) for view in shown]


def _row(view: TissueView, low: float, high: float, units: Units) -> Picture:
    height, width = view.hidden.shape
    panels = 3 if view.evidence is None else 4
    figure = dark_figure(11.4, 11.4 / panels * height / width + 1.05)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for ax in axes:
        ax.set_axis_off()
        ax.set_anchor("N")
    axes[0].imshow(view.observed.clip(0, 1))
    _outline(axes[0], view.hidden, _HIDDEN)
    axes[0].set_title("recorded (yellow: hidden)", color=DARK_TEXT, fontsize=9)
    axes[1].imshow(view.rendered.clip(0, 1))
    title = "rendered"
    if view.synthetic is not None:
        _outline(axes[1], view.synthetic, _SYNTHETIC)
        title = "rendered (magenta: synthetic)"
    axes[1].set_title(title, color=DARK_TEXT, fontsize=9)
    depth = axes[2].imshow(view.depth, cmap="viridis_r", vmin=low, vmax=high, interpolation="nearest")
    axes[2].set_title("depth", color=DARK_TEXT, fontsize=9)
    _bar(figure, depth, axes[2], f"depth ({units.length})")
    if view.evidence is not None:
        shown = axes[3].imshow(view.evidence, cmap="magma", vmin=0, vmax=1)
        axes[3].set_title("evidence", color=DARK_TEXT, fontsize=9)
        _bar(figure, shown, axes[3], "share really observed")
    alt = f"Recorded picture, rendering without instruments, depth and evidence: {view.caption}"
    return finished(figure, alt, view.caption, "scan")


def deformation_picture(view: DeformationView, units: Units) -> Picture | None:
    """The deformation map over the picture; None when nothing of it is in sight."""
    x, y = np.asarray(view.pixels, np.float64).T
    with np.errstate(invalid="ignore"):
        inside = (x > -0.5) & (y > -0.5) & (x < view.width_px - 0.5) & (y < view.height_px - 0.5)
    inside &= np.isfinite(view.distance)
    if not inside.any():
        return None
    # As wide as the other rows of the report, so that its letters are as large as theirs.
    figure = dark_figure(11.4, 5.2)
    ax = figure.subplots()
    top = max(float(np.percentile(view.distance[inside], 99)), 1e-6)
    px = min(4.2 * 72 / view.height_px, 11.0 * 72 / view.width_px)
    size = px**2 * view.width_px * view.height_px / inside.sum()
    shown = ax.scatter(
        x[inside], y[inside], c=view.distance[inside], s=2 * size, cmap="inferno", vmin=0, vmax=top,
        linewidths=0, marker="s",
    )  # fmt: skip
    ax.set(xlim=(-0.5, view.width_px - 0.5), ylim=(view.height_px - 0.5, -0.5))
    ax.set_aspect("equal")
    ax.set_axis_off()
    _bar(figure, shown, ax, f"moved by ({units.length})", thinness=70)
    return finished(figure, "Deformation of the surface against its reference", view.caption, "scan")


def _outline(ax: Any, mask: NDArray[np.bool_], colour: str) -> None:
    if mask.any() and not mask.all():
        ax.contour(mask.astype(float), levels=[0.5], colors=colour, linewidths=0.9)


def _bar(figure: Figure, shown: Any, ax: Any, label: str, thinness: float = 28) -> None:
    bar = figure.colorbar(shown, ax=ax, orientation="horizontal", pad=0.02, aspect=thinness, panchor=False)
    bar.set_label(label, color=DARK_TEXT, fontsize=8)
    bar.ax.tick_params(colors=DARK_TEXT, labelsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]
