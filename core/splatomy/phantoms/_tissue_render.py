"""Pictures of the tissue mesh and of the instruments: a z-buffer of triangles and exact cuts of round cones.

Independent of any Gaussian. The light sits at the camera: radiance falls with the squared distance and the
cosine, and a wet film adds highlights about the mirror direction. All colours are linear here.

Source: Pineda's edge functions (SIGGRAPH 1988) with perspective-correct interpolation, the Blinn-Phong
lobe (SIGGRAPH 1977), and ``_projector.cut`` for round cones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from splatomy.phantoms._projector import cut

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]

_BANDS = 16
_TISSUE_LOBES = (0.85, 280.0, 0.05, 24.0)
"""Strength and exponent of the film's sharp highlight and of its broad sheen."""
_REFLECTED = np.array([0.085, 0.030, 0.026])
"""Light that the tissue throws on the instruments."""


@dataclass(frozen=True)
class Hits:
    """First tissue hit of every sample ray, (sub * H, sub * W); depth inf = none.

    depth_mm: z depth. column, row: place on the mesh in node units.
    """

    depth_mm: Float32
    column: Float32
    row: Float32


@numba.njit(cache=True)
def _triangle(
    a: Any, b: Any, c: Any, attributes: Any, top: int, bottom: int, depth: Any, column: Any, row: Any
) -> None:
    """One triangle into the rows [top, bottom) of the z-buffer; corners are (x, y, z) in sample units."""
    width = depth.shape[1]
    x0 = max(0, math.ceil(min(a[0], b[0], c[0])))
    x1 = min(width - 1, math.floor(max(a[0], b[0], c[0])))
    y0 = max(top, math.ceil(min(a[1], b[1], c[1])))
    y1 = min(bottom - 1, math.floor(max(a[1], b[1], c[1])))
    if x0 > x1 or y0 > y1:
        return
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    if area == 0.0:
        return
    ia, ib, ic = 1.0 / (area * a[2]), 1.0 / (area * b[2]), 1.0 / (area * c[2])
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            wa = (b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)
            wb = (c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)
            wc = area - wa - wb
            if (wa >= 0.0 and wb >= 0.0 and wc >= 0.0) or (wa <= 0.0 and wb <= 0.0 and wc <= 0.0):
                pa, pb, pc = wa * ia, wb * ib, wc * ic
                z = 1.0 / (pa + pb + pc)
                if z < depth[y, x]:
                    depth[y, x] = z
                    column[y, x] = (pa * attributes[0] + pb * attributes[2] + pc * attributes[4]) * z
                    row[y, x] = (pa * attributes[1] + pb * attributes[3] + pc * attributes[5]) * z


@numba.njit(parallel=True, cache=True)
def _rasterise(corners: Any, depth: Any, column: Any, row: Any) -> None:
    """All triangles of the grid (R, C, 3) of corners in sample units; each band of rows on its own."""
    rows, columns = corners.shape[:2]
    height = depth.shape[0]
    low, high = np.empty(rows - 1), np.empty(rows - 1)
    for r in range(rows - 1):
        low[r] = min(corners[r, :, 1].min(), corners[r + 1, :, 1].min())
        high[r] = max(corners[r, :, 1].max(), corners[r + 1, :, 1].max())
    for band in numba.prange(_BANDS):
        top, bottom = band * height // _BANDS, (band + 1) * height // _BANDS
        for r in range(rows - 1):
            if high[r] < top or low[r] > bottom - 1:
                continue
            for c in range(columns - 1):
                p, q = corners[r, c], corners[r, c + 1]
                s, t = corners[r + 1, c], corners[r + 1, c + 1]
                if min(p[2], q[2], s[2], t[2]) <= 1.0:
                    continue
                one = (float(c), float(r), float(c), r + 1.0, c + 1.0, float(r))
                two = (c + 1.0, float(r), float(c), r + 1.0, c + 1.0, r + 1.0)
                _triangle(p, s, q, one, top, bottom, depth, column, row)
                _triangle(q, s, t, two, top, bottom, depth, column, row)


def cast_tissue(nodes_mm: Float, intrinsics: Float, width_px: int, height_px: int, sub: int) -> Hits:
    """Hits of ``sub`` x ``sub`` rays a pixel (sub = 1: pixel centres) with mesh nodes (R, C, 3) mm.

    nodes_mm: in the camera's frame. Where two triangles share an edge the first keeps the ray.
    """
    z = nodes_mm[..., 2]
    x = intrinsics[0, 0] * nodes_mm[..., 0] / z + intrinsics[0, 2]
    y = intrinsics[1, 1] * nodes_mm[..., 1] / z + intrinsics[1, 2]
    corners = np.stack([(x + 0.5) * sub - 0.5, (y + 0.5) * sub - 0.5, z], -1)
    shape = (sub * height_px, sub * width_px)
    hits = Hits(np.full(shape, np.inf, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    _rasterise(corners, hits.depth_mm, hits.column, hits.row)
    return hits


@numba.njit(cache=True)
def _unit(x: float, y: float, z: float) -> Any:
    n = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * n, y * n, z * n


@numba.njit(cache=True)
def _shade_point(
    maps: Any,
    tangents: Any,
    column: float,
    row: float,
    texel: Any,
    px: float,
    py: float,
    pz: float,
    light: Any,
) -> Any:
    """Linear colour of the tissue at one point, for a camera at the origin and a light of unit power."""
    rows, columns = tangents.shape[:2]
    c, r = min(int(column), columns - 2), min(int(row), rows - 2)
    u, v = column - c, row - r
    k00, k01, k10, k11 = (1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v
    g = np.empty(6)
    for k in range(6):
        g[k] = k00 * tangents[r, c, k] + k01 * tangents[r, c + 1, k] + k10 * tangents[r + 1, c, k]
        g[k] += k11 * tangents[r + 1, c + 1, k]
    # Texel centres lie at half integers of the patch.
    x = min(max(column * texel[0] - 0.5, 0.0), maps.shape[1] - 1.001)
    y = min(max(row * texel[1] - 0.5, 0.0), maps.shape[0] - 1.001)
    c, r = int(x), int(y)
    u, v = x - c, y - r
    k00, k01, k10, k11 = (1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v
    m = np.empty(6)
    for k in range(6):
        m[k] = (
            k00 * maps[r, c, k]
            + k01 * maps[r, c + 1, k]
            + k10 * maps[r + 1, c, k]
            + k11 * maps[r + 1, c + 1, k]
        )
    # The normal looks at the camera: tangent t crossed with tangent s.
    nx, ny, nz = _unit(g[4] * g[2] - g[5] * g[1], g[5] * g[0] - g[3] * g[2], g[3] * g[1] - g[4] * g[0])
    sx, sy, sz = g[0] + m[3] * nx, g[1] + m[3] * ny, g[2] + m[3] * nz
    tx, ty, tz = g[3] + m[4] * nx, g[4] + m[4] * ny, g[5] + m[4] * nz
    nx, ny, nz = _unit(ty * sz - tz * sy, tz * sx - tx * sz, tx * sy - ty * sx)
    lx, ly, lz = light[0] - px, light[1] - py, light[2] - pz
    distance2 = lx * lx + ly * ly + lz * lz
    lx, ly, lz = _unit(lx, ly, lz)
    vx, vy, vz = _unit(-px, -py, -pz)
    hx, hy, hz = _unit(lx + vx, ly + vy, lz + vz)
    fall = 1.0 / distance2
    cosine = max(nx * lx + ny * ly + nz * lz, 0.0)
    off = nx * hx + ny * hy + nz * hz - 1.0
    film = _TISSUE_LOBES[0] * math.exp(_TISSUE_LOBES[1] * off) + _TISSUE_LOBES[2] * math.exp(
        _TISSUE_LOBES[3] * off
    )
    film *= m[5]
    return fall * (m[0] * cosine + film), fall * (m[1] * cosine + film), fall * (m[2] * cosine + film)


@numba.njit(cache=True)
def _cone_normal(e: Any, x: float, y: float, z: float) -> Any:
    """Outward unit normal of round cone ``e`` at a point of its wall."""
    px, py, pz = x - e[0], y - e[1], z - e[2]
    wx, wy, wz = e[4] - e[0], e[5] - e[1], e[6] - e[2]
    length = math.sqrt(wx * wx + wy * wy + wz * wz)
    if length <= abs(e[3] - e[7]) + 1e-9:
        if e[7] > e[3]:
            nx, ny, nz = _unit(x - e[4], y - e[5], z - e[6])
        else:
            nx, ny, nz = _unit(px, py, pz)
        return nx, ny, nz
    wx, wy, wz = wx / length, wy / length, wz / length
    axial = px * wx + py * wy + pz * wz
    rx, ry, rz = px - axial * wx, py - axial * wy, pz - axial * wz
    rho = math.sqrt(rx * rx + ry * ry + rz * rz) + 1e-12
    sine = (e[3] - e[7]) / length
    cosine = math.sqrt(1.0 - sine * sine)
    along = axial * cosine - rho * sine
    if along <= 0.0:
        nx, ny, nz = _unit(px, py, pz)
    elif along >= length * cosine:
        nx, ny, nz = _unit(x - e[4], y - e[5], z - e[6])
    else:
        k = cosine / rho
        nx, ny, nz = k * rx + sine * wx, k * ry + sine * wy, k * rz + sine * wz
    return nx, ny, nz


@numba.njit(cache=True)
def _shade_metal(e: Any, look: Any, px: float, py: float, pz: float, light: Any, out: Any) -> None:
    """Linear colour of an instrument part at one point of its wall; look: see ``_tissue_instruments``."""
    nx, ny, nz = _cone_normal(e, px, py, pz)
    lx, ly, lz = light[0] - px, light[1] - py, light[2] - pz
    fall = 1.0 / (lx * lx + ly * ly + lz * lz)
    lx, ly, lz = _unit(lx, ly, lz)
    vx, vy, vz = _unit(-px, -py, -pz)
    hx, hy, hz = _unit(lx + vx, ly + vy, lz + vz)
    cosine = max(nx * lx + ny * ly + nz * lz, 0.0)
    off = nx * hx + ny * hy + nz * hz - 1.0
    shine = look[3] * math.exp(look[4] * off) + 0.16 * look[3] * math.exp(0.08 * look[4] * off)
    for k in range(3):
        out[k] = fall * (look[k] * cosine + shine + _REFLECTED[k] * (1.0 - cosine))


@numba.njit(cache=True)
def first_cone(cones: Any, box: Any, u: float, v: float, dx: float, dy: float, limit: float) -> Any:
    """Nearest part hit by the ray (dx, dy, 1) t with z depth below ``limit``: (index or -1, depth)."""
    best, z = -1, limit
    norm = math.sqrt(dx * dx + dy * dy + 1.0)
    for i in range(len(cones)):
        if box[i, 0] <= u <= box[i, 1] and box[i, 2] <= v <= box[i, 3]:
            t0, t1 = cut(cones[i], 0.0, 0.0, 0.0, dx / norm, dy / norm, 1.0 / norm)
            if t0 < t1 and t1 > 0.0 and t0 / norm < z and t0 > 0.0:
                best, z = i, t0 / norm
    return best, z


@numba.njit(parallel=True, cache=True)
def _shade(
    depth: Any, column: Any, row: Any, maps: Any, tangents: Any, texel: Any, lens: Any, light: Any,
    cones: Any, looks: Any, box: Any, clean: Any, seen: Any, covered: Any,
) -> None:  # fmt: skip
    """Mean linear colours of every pixel without (clean) and with instruments (seen), and who is covered."""
    height, width = covered.shape
    sub = depth.shape[0] // height
    share = 1.0 / (sub * sub)
    for y in numba.prange(height):
        metal = np.empty(3)
        for x in range(width):
            hidden = False
            for k in range(sub * sub):
                i, j = y * sub + k // sub, x * sub + k % sub
                u, v = (j + 0.5) / sub - 0.5, (i + 0.5) / sub - 0.5
                dx, dy = (u - lens[2]) / lens[0], (v - lens[3]) / lens[1]
                z = float(depth[i, j])
                red, green, blue = 0.0, 0.0, 0.0
                if z < math.inf:
                    red, green, blue = _shade_point(
                        maps, tangents, column[i, j], row[i, j], texel, dx * z, dy * z, z, light
                    )
                    clean[y, x, 0] += share * red
                    clean[y, x, 1] += share * green
                    clean[y, x, 2] += share * blue
                part, near = first_cone(cones, box, u, v, dx, dy, z)
                if part >= 0:
                    hidden = True
                    _shade_metal(cones[part], looks[part], dx * near, dy * near, near, light, metal)
                    red, green, blue = metal[0], metal[1], metal[2]
                seen[y, x, 0] += share * red
                seen[y, x, 1] += share * green
                seen[y, x, 2] += share * blue
            covered[y, x] = hidden


def _boxes(cones: Float, lens: Float, width_px: int, height_px: int) -> Float:
    """Pixel boxes (E, 4) u0, u1, v0, v1 that hold every part; the whole image for one that passes us."""
    corner = np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1.0
    ends = cones.reshape(-1, 2, 4)
    points = ends[:, :, None, :3] + ends[:, :, None, 3:] * corner
    z = points[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        u = lens[0] * points[..., 0] / z + lens[2]
        v = lens[1] * points[..., 1] / z + lens[3]
    box = np.stack([u.min((1, 2)), u.max((1, 2)), v.min((1, 2)), v.max((1, 2))], -1)
    box[z.min((1, 2)) <= 0.1] = (-1.0, width_px, -1.0, height_px)
    return box


@numba.njit(parallel=True, cache=True)
def _nearest(tissue: Any, cones: Any, box: Any, lens: Any, covered: Any, out: Any) -> None:
    """Depth of what is seen at every pixel centre; a pixel covered in part takes its tissue's depth."""
    height, width = out.shape
    for y in numba.prange(height):
        for x in range(width):
            z = float(tissue[y, x])
            if covered[y, x]:
                dx, dy = (x - lens[2]) / lens[0], (y - lens[3]) / lens[1]
                _, z = first_cone(cones, box, float(x), float(y), dx, dy, z)
            out[y, x] = z


@dataclass(frozen=True)
class View:
    """One picture: linear colours without and with instruments (H, W, 3), and pixels covered (H, W)."""

    clean: Float32
    seen: Float32
    covered: NDArray[np.bool_]


def _lens(intrinsics: Float) -> Float:
    return np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]])


def shade(
    hits: Hits, nodes_mm: Float, spacing_mm: float, maps: Float32, intrinsics: Float, light_mm: Float,
    cones: Float, looks: Float, sub: int,
) -> View:  # fmt: skip
    """The picture of tissue hits and of instruments, everything in the camera's frame.

    cones (E, 8), looks (E, 5): parts and their materials. light_mm: (3,). A pixel is covered when any of
    its rays meets an instrument first.
    """
    height, width = (n // sub for n in hits.depth_mm.shape)
    t, s = np.gradient(nodes_mm, spacing_mm, axis=(0, 1))
    rows, columns = nodes_mm.shape[:2]
    texel = np.array([maps.shape[1] / (columns - 1), maps.shape[0] / (rows - 1)])
    view = View(
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width, 3), np.float32),
        np.zeros((height, width), np.bool_),
    )
    lens = _lens(intrinsics)
    _shade(
        hits.depth_mm, hits.column, hits.row, maps, np.concatenate([s, t], -1), texel, lens, light_mm,
        cones, looks, _boxes(cones, lens, width, height), view.clean, view.seen, view.covered,
    )  # fmt: skip
    return view


def nearest_depth(tissue_mm: Float32, cones: Float, intrinsics: Float, covered: NDArray[np.bool_]) -> Float32:
    """z depth (H, W) mm of the nearest surface along the rays of the pixel centres."""
    lens = _lens(intrinsics)
    out = np.empty_like(tissue_mm)
    height, width = out.shape
    _nearest(tissue_mm, cones, _boxes(cones, lens, width, height), lens, covered, out)
    return out


@numba.njit(cache=True)
def _count(cones: Any, box: Any, lens: Any, width: int, height: int) -> int:
    total = 0
    for y in range(height):
        for x in range(width):
            dx, dy = (x - lens[2]) / lens[0], (y - lens[3]) / lens[1]
            part, _ = first_cone(cones, box, float(x), float(y), dx, dy, math.inf)
            total += part >= 0
    return total


def covered_share(cones: Float, intrinsics: Float, width_px: int, height_px: int) -> float:
    """Share of the pixel centres whose ray meets an instrument, in front of the tissue or inside it."""
    lens = _lens(intrinsics)
    box = _boxes(cones, lens, width_px, height_px)
    return _count(cones, box, lens, width_px, height_px) / (width_px * height_px)
