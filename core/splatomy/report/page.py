"""The HTML of a report."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from splatomy.report.data import ReportData
from splatomy.report.metric_names import METRIC_ORDER, describe_metric
from splatomy.report.pictures import (
    Picture,
    Units,
    centreline_pictures,
    curve_picture,
    image_curve_picture,
    loss_picture,
    lumen_volume_mm3,
    view_pictures,
    volume_pictures,
)
from splatomy.report.safe_text import safe_text
from splatomy.report.surface import side_pictures, surface_pictures
from splatomy.report.tissue import deformation_picture, tissue_pictures

_STYLE = """
:root { --ground: #fbfaf7; --text: #1d2126; --soft: #5d6670; --line: #dcd8cf; --card: #fff;
  --warn: #fff3d6; --warn-line: #d99a00; --stop: #8c1c13; --link: #0b5a8a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --text: #e6e4df; --soft: #a2a8af; --line: #33383e; --card: #1e2125;
    --warn: #3a2f12; --warn-line: #d9a520; --stop: #7d2018; --link: #7fc0ea; }
  img.plot { filter: invert(0.9) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header { max-width: 1080px; margin: 0 auto; padding: 0 24px; }
.banner { background: var(--stop); color: #fff; text-align: center; padding: 9px 16px; font-weight: 650; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 30px 0 4px; }
h2 { font-size: 1.25rem; margin: 42px 0 12px; padding-bottom: 5px; border-bottom: 1px solid var(--line); }
.method { color: var(--soft); margin: 0; }
.verdict { font-size: 1.12rem; margin: 18px 0; }
.warnings { background: var(--warn); border-left: 5px solid var(--warn-line); border-radius: 4px;
  padding: 12px 18px; }
.warnings ul { margin: 6px 0 0; padding-left: 20px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 12px;
  padding: 0; list-style: none; }
.facts li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }
.facts b { display: block; font-size: 1.12rem; font-variant-numeric: tabular-nums; }
.facts span, figcaption, .hint { color: var(--soft); font-size: 0.88rem; }
figure { margin: 0 0 24px; }
figure img { display: block; width: 100%; height: auto; border-radius: 8px; }
figcaption { margin-top: 6px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 4px 22px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.94rem; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
table.pairs td, table.pairs th { overflow-wrap: anywhere; }
th { font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.pairs th { width: 32%; }
td.own { font-weight: 650; }
code { font-size: 0.92em; }
li code { overflow-wrap: anywhere; }
footer { color: var(--soft); font-size: 0.88rem; margin: 46px 0 34px; }
@media print { .banner { print-color-adjust: exact; } h2 { break-after: avoid; }
  figure { break-inside: avoid; } }
"""


_TIMES = " \N{MULTIPLICATION SIGN} "
_NO_VALUE = "\N{EN DASH}"


def build_page(data: ReportData) -> str:
    """The whole report as HTML text."""
    writer = _Writer(data)
    title = writer.text(data.title)
    body = "\n".join(part for part in writer.sections() if part)
    # The policy makes a viewer refuse whatever is not in the file itself.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<div class="banner" role="note">{writer.text(data.research_use)}</div>
{body}
</body>
</html>
"""


class _Writer:
    """Turns the parts of a report into HTML; every foreign string passes through ``text``."""

    def __init__(self, data: ReportData) -> None:
        self.data = data
        self.units = Units(data.metric, data.world)

    def text(self, value: Any) -> str:
        """The value as safe HTML text, without millimetres when the scale is unknown."""
        return safe_text(self.units.plain(value))

    def sections(self) -> Iterable[str]:
        """The page's parts from top to bottom."""
        data = self.data
        yield self._header()
        yield "<main>"
        yield self._warnings()
        yield self._facts()
        yield self._section("Tissue", self._figures(tissue_pictures(data.tissue_views, self.units)))
        yield self._section("Deformation", self._figures(self._deformation()))
        yield self._section("Surface", self._figures(surface_pictures(data.surface_views, self.units)))
        yield self._section("Mesh", self._mesh())
        yield self._section("Vessels", self._figures(volume_pictures(data, self.units)))
        lines = centreline_pictures(data, self.units)
        yield self._section("Centrelines and radii", self._figures(lines[:1]))
        plots = [
            *lines[1:],
            curve_picture(data.curves, self.units),
            image_curve_picture(data.image_curves, self.units),
            loss_picture(data.loss_curve),
        ]
        yield self._section("Curves", self._plots([p for p in plots if p is not None]))
        yield self._section("Measured and rendered views", self._figures(view_pictures(data.views)))
        yield self._section("How good it is", self._metric_table())
        yield self._section("Input", self._pairs(self._input_rows()))
        yield self._section("What is synthetic", f"<p>{self.text(data.synthetic_text)}</p>")
        yield self._section("Settings", self._pairs(self._setting_rows()))
        yield self._section("Time and memory", self._timing_table())
        yield self._section("Files of this run", self._list(data.files, "code"))
        yield self._section("Provenance", self._list(data.provenance, "span", ordered=True))
        yield self._footer()
        yield "</main>"

    def _deformation(self) -> list[Picture]:
        if self.data.deformation is None:
            return []
        made = deformation_picture(self.data.deformation, self.units)
        return [] if made is None else [made]

    def _mesh(self) -> str:
        sides = side_pictures(self.data.mesh_sides)
        return self._figures(sides) + self._pairs(self.data.mesh_figures)

    def _header(self) -> str:
        data = self.data
        scale = "" if data.metric else '<p class="hint">Lengths are in units (not metric).</p>'
        return (
            f"<header><h1>{self.text(data.title)}</h1>"
            f'<p class="method">{self.text(data.method_title)} · preset {self.text(data.preset)}<br>'
            f"{self.text(data.citation)}</p>"
            f'<p class="verdict">{self.text(verdict(data))}</p>{scale}</header>'
        )

    def _warnings(self) -> str:
        if not self.data.problems:
            return ""
        items = "".join(f"<li>{self.text(problem)}</li>" for problem in self.data.problems)
        return f'<div class="warnings" role="alert"><strong>Read this first</strong><ul>{items}</ul></div>'

    def _facts(self) -> str:
        items = "".join(
            f"<li><span>{self.text(name)}</span><b>{self.text(value)}</b></li>"
            for name, value in self._fact_rows()
        )
        return f'<ul class="facts">{items}</ul>' if items else ""

    def _fact_rows(self) -> list[tuple[str, str]]:
        data, length = self.data, self.units.length
        rows: list[tuple[str, str]] = []
        if data.volume is not None:
            spacing = _TIMES.join(f"{s:.3g}" for s in data.volume.grid.spacing_mm)
            rows.append(("Volume", _TIMES.join(map(str, data.volume.values.shape)) + " voxels"))
            rows.append(("Voxel", f"{spacing} {length}"))
        if data.volume is not None and data.label is not None:
            amount = lumen_volume_mm3(data.volume, data.label)
            rows.append(
                ("Space inside vessels", f"{amount / 1000:.3g} ml" if data.metric else f"{amount:.3g} units³")
            )
        if data.threshold_per_mm is not None:
            unit = "1/mm" if data.metric else "1/unit"
            rows.append(("Vessel threshold", f"{data.threshold_per_mm:.4g} {unit}"))
        if data.radius_mm is not None and data.radius_mm.size:
            low, mid, high = np.nanpercentile(data.radius_mm, [5, 50, 95])
            rows.append(("Vessel radius (5, 50, 95 %)", f"{low:.2f}, {mid:.2f}, {high:.2f} {length}"))
        if data.arrival_s is not None and np.isfinite(data.arrival_s).any():
            early, late = np.nanpercentile(data.arrival_s, [5, 95])
            rows.append(("Contrast arrives (5 to 95 %)", f"{early:.2f} to {late:.2f} s"))
        return rows

    def _section(self, title: str, body: str) -> str:
        return f"<section><h2>{self.text(title)}</h2>{body}</section>" if body else ""

    def _figure(self, picture: Picture) -> str:
        data = base64.b64encode(picture.png).decode("ascii")
        return (
            f'<figure><img class="{picture.kind}" alt="{self.text(picture.alt)}" '
            f'src="data:image/png;base64,{data}"><figcaption>{self.text(picture.caption)}</figcaption></figure>'
        )

    def _figures(self, pictures: Sequence[Picture]) -> str:
        return "\n".join(self._figure(picture) for picture in pictures)

    def _plots(self, pictures: Sequence[Picture]) -> str:
        return f'<div class="plots">{self._figures(pictures)}</div>' if pictures else ""

    def _metric_table(self) -> str:
        own, peers = self.data.metrics, self.data.peer_metrics
        keys = set(own).union(*peers.values()) if peers else set(own)
        if not keys:
            return ""
        rank = {key: n for n, key in enumerate(METRIC_ORDER)}
        head = "".join(f'<th class="n">{self.text(name)}</th>' for name in peers)
        rows = []
        for key in sorted(keys, key=lambda k: (rank.get(k, len(rank)), k)):
            about = describe_metric(key)
            better = f" {about.better.capitalize()} is better." if about.better else ""
            cells = "".join(f'<td class="n">{_number(peer.get(key))}</td>' for peer in peers.values())
            rows.append(
                f"<tr><td><code>{self.text(key)}</code></td><td class='hint'>{self.text(about.unit)}</td>"
                f'<td class="n own">{_number(own.get(key))}</td>{cells}'
                f'<td class="hint">{self.text(about.text + better)}</td></tr>'
            )
        return (
            '<div class="wide"><table><thead><tr><th>Metric</th><th>Unit</th><th class="n">this run</th>'
            f"{head}<th>What it says</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
            f'<p class="hint">“{_NO_VALUE}” = not defined for this run.</p>'
        )

    def _input_rows(self) -> dict[str, str]:
        frame = self.data.world if self.data.metric else f"{self.data.world}, units (not metric)"
        return {**self.data.input_summary, "World frame": frame}

    def _setting_rows(self) -> dict[str, Any]:
        rows: dict[str, Any] = {name: _plain(value) for name, value in self.data.settings.items()}
        if self.data.seed is not None:
            rows.setdefault("seed", self.data.seed)
        return rows

    def _pairs(self, rows: Mapping[str, Any]) -> str:
        if not rows:
            return ""
        lines = "".join(f"<tr><th>{self.text(k)}</th><td>{self.text(v)}</td></tr>" for k, v in rows.items())
        return f'<div class="wide"><table class="pairs"><tbody>{lines}</tbody></table></div>'

    def _timing_table(self) -> str:
        rows: dict[str, str] = {name: f"{seconds:.1f} s" for name, seconds in self.data.timings_s.items()}
        if len(rows) > 1 and "total" not in rows:
            rows["total"] = f"{sum(self.data.timings_s.values()):.1f} s"
        if self.data.peak_memory_mb is not None:
            rows["peak memory"] = f"{self.data.peak_memory_mb:.0f} MB"
        return self._pairs(rows)

    def _list(self, items: Sequence[str], tag: str, ordered: bool = False) -> str:
        if not items:
            return ""
        kind = "ol" if ordered else "ul"
        lines = "".join(f"<li><{tag}>{self.text(item)}</{tag}></li>" for item in items)
        return f"<{kind}>{lines}</{kind}>"

    def _footer(self) -> str:
        data = self.data
        parts = [
            f"Splatomy {data.software_version}" if data.software_version else "Splatomy",
            f"device {data.device}" if data.device else "",
            f"seed {data.seed}" if data.seed is not None else "",
            data.research_use,
        ]
        return f"<footer>{self.text(' · '.join(part for part in parts if part))}</footer>"


def verdict(data: ReportData) -> str:
    """One line for a reader who reads no further."""
    own = {k: v for k, v in data.metrics.items() if v is not None and math.isfinite(v)}
    if "dice_own" in own:
        text = (
            f"The vessel label overlaps the known truth with a Dice of {own['dice_own']:.3f} (1 is perfect)"
        )
        peers = [
            f"{name} {peer['dice_own']:.3f}"
            for name, peer in data.peer_metrics.items()
            if peer.get("dice_own") is not None
        ]
        text += f"; from the same views: {', '.join(peers)}." if peers else "."
    elif data.surface_views and "chamfer_mean_mm" in own:
        text = f"The surface is {own['chamfer_mean_mm']:.2f} mm from the known truth in the mean, both ways"
        if "completeness_hidden_mm" in own:
            text += f"; its part that no view shows, {own['completeness_hidden_mm']:.2f} mm"
        text += "."
    elif data.surface_views and "psnr" in own:
        text = (
            f"Held-out views are reproduced with {own['psnr']:.1f} dB; how far the surface is off cannot be "
            "told without truth."
        )
    elif "psnr_hidden" in own:
        text = f"Tissue behind the instruments agrees with the known truth to {own['psnr_hidden']:.1f} dB"
        if "depth_mae_mm" in own:
            text += f", its surface to {own['depth_mae_mm']:.2f} mm in the mean"
        text += "."
    elif "psnr_masked" in own and "psnr" not in own:
        text = (
            f"Held-out frames are reproduced with {own['psnr_masked']:.1f} dB where they show tissue; what "
            "lies behind the instruments cannot be checked without truth."
        )
    elif "psnr" in own:
        text = (
            f"Held-out views are reproduced with {own['psnr']:.1f} dB; there is no truth to measure against."
        )
    else:
        text = "Nothing in this input tells how good the result is: judge it by the pictures."
    count = len(data.problems)
    return text + (f" {count} warning{'s' if count > 1 else ''} to read first." if count else "")


def _number(value: float | None) -> str:
    """Four significant digits, or a dash where there is no number."""
    if value is None or not math.isfinite(value):
        return _NO_VALUE
    return f"{value:.0f}" if abs(value) >= 10000 else f"{value:.4g}"


def _plain(value: Any) -> str:
    """A setting as a reader writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return "none" if value is None else str(value)
