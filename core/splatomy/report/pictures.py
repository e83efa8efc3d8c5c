"""The pictures of a report, as PNG files in memory."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from splatomy.report.data import Curve, ReportData, View
from splatomy.report.projections import (
    PLANES,
    Plane,
    WorldGrid,
    picture_of,
    project_by_strength,
    project_max,
    shade_label,
)
from splatomy.scene import Volume

# Okabe and Ito's palette: told apart by readers with any colour vision.
_LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
_DARK = "#0d0f12"
DARK_TEXT = "#d5d9de"
_MAX_VIEWS = 4
_MAX_CURVES = 8


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption; kind "plot" = dark lines on white, "scan" = on a dark ground."""

    png: bytes
    alt: str
    caption: str
    kind: Literal["plot", "scan"]


@dataclass(frozen=True)
class Units:
    """length: "mm", or "units" where the scale is unknown. anatomical: the world is the patient's LPS."""

    metric: bool
    world: str

    @property
    def length(self) -> str:
        return "mm" if self.metric else "units"

    def plain(self, value: Any) -> str:
        """The value as text that can be shown: valid Unicode, and no millimetres of unknown scale."""
        # A file name can hold bytes that are no valid text; they must not stop the report.
        text = str(value).encode("utf-8", "replace").decode("utf-8")
        if self.metric:
            return text
        text = re.sub(r"(?<=\d)mm(?![A-Za-z])", " units", text)
        return re.sub(r"(?<![A-Za-z])mm(?![A-Za-z])", "units", text)

    @property
    def anatomical(self) -> bool:
        return self.world == "LPS"

    @property
    def axes_name(self) -> str:
        if self.anatomical:
            return "patient axes (LPS)"
        return "isocentre axes" if "isocentre" in self.world else f"axes of the {self.world}"


def volume_pictures(data: ReportData, units: Units) -> list[Picture]:
    """Projections of the volume, its time maps and its label, in reading order."""
    if data.volume is None:
        return []
    grid = WorldGrid.of(data.volume.values.shape, data.volume.affine_mm)
    values = np.nan_to_num(np.asarray(data.volume.values), nan=0.0, posinf=0.0, neginf=0.0)
    laid: Any = grid.lay(values)
    made = [_mip_picture(laid, grid, units)]
    if data.label is not None:
        made.append(_shaded_picture(grid.lay(data.label), grid))
    maps = (
        ("Contrast arrival", data.arrival_s),
        ("Time to peak", data.peak_s),
        ("Mean transit time", data.transit_s),
    )
    for name, times_s in maps:
        if times_s is not None:
            masked = times_s if data.label is None else np.where(data.label > 0, times_s, np.nan)
            picture = _map_picture(name, grid.lay(np.asarray(masked, np.float32)), laid, grid, units)
            made.extend([picture] if picture else [])
    if data.label is not None and data.truth_label is not None:
        made.append(_truth_picture(grid.lay(data.label), grid.lay(data.truth_label), grid, units))
    return made


def _mip_picture(laid: Any, grid: WorldGrid, units: Units) -> Picture:
    """Three maximum projections with one grey scale."""
    flats = [project_max(laid, plane) for plane in PLANES]
    top = max(float(np.percentile(np.concatenate([f.ravel() for f in flats]), 99.8)), 1e-9)
    figure = dark_figure(11.4, 4.3)
    axes = figure.subplots(1, 3)
    for ax, flat, plane in zip(axes, flats, PLANES):
        shown = ax.imshow(flat, cmap="gray", vmin=0, vmax=top, extent=grid.extent_mm(plane))
        _label_plane(ax, plane, units)
    _bar(figure, shown, axes, f"attenuation (1/{units.length})" if units.metric else "attenuation (1/unit)")
    about = " The volume is turned against these axes, so positions are approximate." if grid.oblique else ""
    caption = f"Maximum intensity projections of the mean volume, {units.axes_name}.{about}"
    return finished(figure, "Axial, coronal and sagittal maximum intensity projections", caption, "scan")


def _map_picture(name: str, laid: Any, strength: Any, grid: WorldGrid, units: Units) -> Picture | None:
    """A time map in colour, of the strongest vessel on each line of sight; None if nothing is known."""
    known = laid[np.isfinite(laid)]
    if known.size == 0:
        return None
    low, high = (float(v) for v in np.percentile(known, [1, 99]))
    if high - low < 0.1:  # a nearly constant map must not show its rounding errors in full colour
        low, high = (low + high) / 2 - 0.05, (low + high) / 2 + 0.05
    figure = dark_figure(11.4, 4.3)
    axes = figure.subplots(1, 3)
    for ax, plane in zip(axes, PLANES):
        flat = project_by_strength(laid, strength, plane)
        shown = ax.imshow(
            flat,
            cmap="turbo",
            vmin=low,
            vmax=high,
            extent=grid.extent_mm(plane),
            interpolation="nearest",
        )
        _label_plane(ax, plane, units)
    _bar(figure, shown, axes, f"{name.lower()} (s)", extend="both")
    caption = (
        f"{name} in seconds from the first frame, inside vessels; the better filled one where two cross."
    )
    if name == "Mean transit time":
        caption = f"{name} in seconds, inside vessels."
    return finished(figure, f"{name} map in three projections", caption, "scan")


def _shaded_picture(laid: Any, grid: WorldGrid) -> Picture:
    """The label as a lit surface from two directions."""
    figure = dark_figure(11.4, 5.8)
    for ax, degrees in zip(figure.subplots(1, 2), (0, 60)):
        ax.imshow(shade_label(laid, grid.step_mm, np.deg2rad(degrees)))
        ax.set_title(f"turned by {degrees}° about the z axis", color=DARK_TEXT, fontsize=9)
        ax.set_axis_off()
    caption = "The vessel label, shaded. z points up; nearer is brighter."
    return finished(figure, "Shaded surface of the vessel label from two directions", caption, "scan")


def _truth_picture(label: Any, truth: Any, grid: WorldGrid, units: Units) -> Picture:
    """Where label and truth agree and differ, in three projections."""
    groups = ((label > 0) & (truth > 0), (label > 0) & (truth == 0), (label == 0) & (truth > 0))
    colours = np.array([[0.55, 0.58, 0.62], [0.25, 0.65, 1.0], [1.0, 0.42, 0.05]])
    figure = dark_figure(11.4, 4.3)
    for ax, plane in zip(figure.subplots(1, 3), PLANES):
        counts = np.stack([picture_of(group.sum(axis=plane.depth), plane) for group in groups], -1)
        total = counts.sum(-1, keepdims=True)
        # Mixed by their shares along the line of sight, so that a rim of one voxel stays a tint.
        image = np.where(total > 0, counts @ colours / np.maximum(total, 1), 0.05)
        ax.imshow(image, extent=grid.extent_mm(plane), interpolation="nearest")
        _label_plane(ax, plane, units)
    caption = "Our label against the truth, mixed along the view: grey both, blue ours alone, orange missed."
    return finished(
        figure, "Agreement of the vessel label with the truth in three projections", caption, "scan"
    )


def centreline_pictures(data: ReportData, units: Units) -> list[Picture]:
    """The centreline coloured by radius, and the histogram of its radii."""
    if data.points_mm is None or data.radius_mm is None or len(data.points_mm) == 0:
        return []
    points, radius = np.asarray(data.points_mm), np.asarray(data.radius_mm)
    figure = dark_figure(11.4, 4.3)
    axes = figure.subplots(1, 3)
    for ax, plane in zip(axes, PLANES):
        order = np.argsort(radius)
        x, y = points[order, plane.across], points[order, plane.vertical]
        size = 2 + 10 * radius[order] / max(float(radius.max()), 1e-9)
        shown = ax.scatter(x, y, c=radius[order], s=size, cmap="viridis", linewidths=0)
        ax.set_aspect("equal", adjustable="datalim")
        if not plane.upwards:
            ax.invert_yaxis()
        _label_plane(ax, plane, units)
    _bar(figure, shown, axes, f"radius ({units.length})")
    lines = finished(
        figure,
        "Centrelines coloured by vessel radius in three projections",
        f"Centrelines, coloured by vessel radius in {units.length}.",
        "scan",
    )
    figure = _plot_figure()
    ax = figure.subplots()
    ax.hist(radius[np.isfinite(radius)], bins=30, color=_LINE_COLOURS[0])
    ax.set(xlabel=f"vessel radius ({units.length})", ylabel="centreline points")
    _tidy(ax)
    return [
        lines,
        finished(figure, "Histogram of vessel radii", "How often each vessel radius occurs.", "plot"),
    ]


def curve_picture(curves: Sequence[Curve], units: Units) -> Picture | None:
    """Attenuation over time at the named places."""
    return _curves(curves, units, f"attenuation ({'1/mm' if units.metric else '1/unit'})", "Time-attenuation")


def image_curve_picture(curves: Sequence[Curve], units: Units) -> Picture | None:
    """Line integrals over time, measured in the pictures."""
    return _curves(curves, units, "line integral", "Measured time-attenuation")


def _curves(curves: Sequence[Curve], units: Units, axis: str, what: str) -> Picture | None:
    if not curves:
        return None
    figure = _plot_figure()
    ax = figure.subplots()
    for (name, times_s, values), colour in zip(curves[:_MAX_CURVES], _LINE_COLOURS):
        # A name between dollar signs would be read as a formula, one with a leading "_" be left out.
        label = units.plain(name).replace("$", r"\$").lstrip("_")
        ax.plot(times_s, values, color=colour, label=label, marker="o" if len(times_s) == 1 else None)
    ax.set(xlabel="time from the first frame (s)", ylabel=axis)
    ax.legend(frameon=False, fontsize=8)
    _tidy(ax)
    left = len(curves) - _MAX_CURVES
    caption = f"{what} curves." + (f" {left} more are not shown." if left > 0 else "")
    return finished(figure, f"{what} over time at chosen places", caption, "plot")


def loss_picture(loss_curve: Sequence[tuple[int, float]]) -> Picture | None:
    """The training loss over the steps."""
    finite = [(step, loss) for step, loss in loss_curve if np.isfinite(loss)]
    if len(finite) < 2:
        return None
    steps, losses = np.array(finite).T
    figure = _plot_figure()
    ax = figure.subplots()
    ax.plot(steps, losses, color=_LINE_COLOURS[0], linewidth=1)
    if losses.min() > 0:
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="loss")
    _tidy(ax)
    return finished(
        figure, "Training loss over steps", "Training loss; it should fall and level out.", "plot"
    )


def view_pictures(views: Sequence[View]) -> list[Picture]:
    """Measured, rendered and their difference, one picture a view."""
    return [_view_picture(*view) for view in views[:_MAX_VIEWS]]


def _view_picture(caption: str, measured: NDArray[np.floating], rendered: NDArray[np.floating]) -> Picture:
    both = np.concatenate([measured.ravel(), rendered.ravel()])
    both = both[np.isfinite(both)]
    low, high = (float(v) for v in np.percentile(both, [0.2, 99.8])) if both.size else (0.0, 1.0)
    high = max(high, low + 1e-6)
    with np.errstate(invalid="ignore"):  # infinity minus infinity is drawn as a gap, which is right
        difference = np.asarray(rendered, np.float64) - measured
    finite = np.abs(difference[np.isfinite(difference)])
    reach = max(float(np.percentile(finite, 99.8)) if finite.size else 0.0, (high - low) * 0.02)
    figure = dark_figure(11.4, 3.9)
    axes = figure.subplots(1, 3)
    for ax, image, title in ((axes[0], measured, "measured"), (axes[1], rendered, "rendered")):
        grey = ax.imshow(image, cmap="gray", vmin=low, vmax=high)
        ax.set_title(title, color=DARK_TEXT, fontsize=9)
    signed = axes[2].imshow(difference, cmap="RdBu_r", vmin=-reach, vmax=reach)
    axes[2].set_title("rendered - measured", color=DARK_TEXT, fontsize=9)
    for ax in axes:
        ax.set_axis_off()
    _bar(figure, grey, axes[:2], "image value")
    _bar(figure, signed, [axes[2]], "difference")
    return finished(figure, f"Measured, rendered and difference images: {caption}", caption, "scan")


def lumen_volume_mm3(volume: Volume, label: NDArray[np.uint8]) -> float:
    """Volume inside the label, mm^3."""
    return float(np.count_nonzero(label) * abs(np.linalg.det(volume.affine_mm[:3, :3])))


def dark_figure(width: float, height: float) -> Figure:
    """A figure for images, sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=110, facecolor=_DARK)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.12)
    return figure


def _plot_figure() -> Figure:
    return Figure(figsize=(6.2, 3.5), dpi=110, facecolor="white", layout="constrained")


def _tidy(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)


def _label_plane(ax: Axes, plane: Plane, units: Units) -> None:
    """Axis names with units, and the anatomical letters at the edges where the world has them."""
    ax.set_facecolor(_DARK)
    ax.tick_params(colors=DARK_TEXT, labelsize=7)
    for spine in ax.spines.values():
        spine.set_color("#3a3f46")
    ax.set_xlabel(f"{'xyz'[plane.across]} ({units.length})", color=DARK_TEXT, fontsize=8, labelpad=1)
    ax.set_ylabel(f"{'xyz'[plane.vertical]} ({units.length})", color=DARK_TEXT, fontsize=8, labelpad=1)
    ax.set_title(
        plane.name if units.anatomical else f"along {'xyz'[plane.depth]}", color=DARK_TEXT, fontsize=9
    )
    if units.anatomical:
        places = ((0.02, 0.5), (0.98, 0.5), (0.5, 0.98), (0.5, 0.02))
        aligns = (("left", "center"), ("right", "center"), ("center", "top"), ("center", "bottom"))
        for letter, (x, y), (horizontal, vertical) in zip(plane.edges, places, aligns):
            style: dict[str, Any] = {"ha": horizontal, "va": vertical, "color": "#ffd166", "weight": "bold"}
            ax.text(x, y, letter, transform=ax.transAxes, fontsize=10, **style)


def _bar(figure: Figure, shown: Any, axes: Any, label: str, extend: str = "neither") -> None:
    bar = figure.colorbar(shown, ax=list(axes), shrink=0.85, pad=0.015, aspect=28, extend=extend)
    bar.set_label(label, color=DARK_TEXT, fontsize=8)
    bar.ax.ticklabel_format(useOffset=False)
    bar.ax.tick_params(colors=DARK_TEXT, labelsize=7)
    bar.outline.set_visible(False)  # type: ignore[operator]


def finished(figure: Figure, alt: str, caption: str, kind: Literal["plot", "scan"]) -> Picture:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return Picture(buffer.getvalue(), alt, caption, kind)
