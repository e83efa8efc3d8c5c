"""Rows of 16 pixels of one surfel in one tile, stated as vectors in LLVM's terms.

A tile's pixels are kept in planes of 256 floats. Both intrinsics take the surfel's footprint of
``FOOTPRINT`` floats (planes r0, r1, r2 and q - reference of ``_torch_surfel``, and the opacity), the offset
(dx, dy) of the first pixel from its centre, and its place in the tile's order, counted from 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from splatomy.kernels._numba_shared import (
    _FLOATS,
    _RAMP,
    HALF_LOG2_E,
    LANES,
    _exp2,
    _floats,
    _madd,
    _spread,
    _total,
)
from splatomy.kernels._torch_surfel import (
    LOW_PASS,
    MAX_ALPHA,
    MAX_SQUARE,
    MEDIAN_TRANSMITTANCE,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    TILE_PX,
    TINY,
)

assert LANES == TILE_PX
PIXELS = TILE_PX * TILE_PX

R0X, R0Y, R1X, R1Y, R2, R2X, R2Y, Q, QX, QY, OPACITY, FOOTPRINT = range(12)
LIGHT, MEDIAN, MEDIAN_AT, LAST_AT, FIRST, SECOND, VALUES = range(7)
"""Planes of the forward pass. LIGHT is the transmittance, negative once the pixel has ended."""
BACK_LIGHT, BEHIND, D_FIRST, D_SECOND, D_MEDIAN, BACK_MEDIAN_AT, BACK_LAST_AT, D_VALUES = range(8)
"""Planes of the backward pass. BEHIND is the loss's change by all that lies behind the next hit."""
GRADIENTS = 15
"""Floats of a gradient record: r0, r1, r2, q each by (1, dx, dy), low-pass by (dx, dy), opacity."""


class _Vectors:
    """Vector arithmetic on one builder; scalars are spread by ``all``."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.b = builder

    def all(self, scalar: Any) -> Any:
        return _spread(self.b, scalar)

    def add(self, x: Any, y: Any) -> Any:
        return self.b.fadd(x, y)

    def sub(self, x: Any, y: Any) -> Any:
        return self.b.fsub(x, y)

    def mul(self, x: Any, y: Any) -> Any:
        return self.b.fmul(x, y)

    def madd(self, x: Any, y: Any, z: Any) -> Any:
        """x y + z."""
        return _madd(self.b, x, y, z)

    def less(self, x: Any, y: Any) -> Any:
        return self.b.fcmp_ordered("<", x, y)

    def smaller(self, x: Any, y: Any) -> Any:
        return self.b.select(self.less(x, y), x, y)

    def masked(self, mask: Any, x: Any) -> Any:
        return self.b.select(mask, x, _floats(0.0))

    def total(self, x: Any) -> Any:
        """The sum of the lanes."""
        return _total(self.b, x)

    @contextmanager
    def if_any(self, mask: Any) -> Iterator[None]:
        bits = self.b.bitcast(mask, ir.IntType(LANES))
        with self.b.if_then(self.b.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))):
            yield


class _Memory:
    """Blocks of ``LANES`` floats and single floats of one array from an offset on."""

    def __init__(self, context: Any, b: ir.IRBuilder, kind: Any, array: Any, offset: Any) -> None:
        self.b = b
        self.data = b.gep(context.make_array(kind)(context, b, array).data, [offset])

    def scalar(self, index: int) -> Any:
        return self.b.load(self.b.gep(self.data, [ir.Constant(ir.IntType(64), index)]))

    def scalar_at(self, index: Any) -> Any:
        return self.b.load(self.b.gep(self.data, [index]))

    def put_scalar(self, index: int, value: Any) -> None:
        self.b.store(value, self.b.gep(self.data, [ir.Constant(ir.IntType(64), index)]))

    def put_scalar_at(self, index: Any, value: Any) -> None:
        self.b.store(value, self.b.gep(self.data, [index]))

    def _block(self, plane: Any, start: Any, size: int) -> Any:
        if isinstance(plane, int):
            plane = ir.Constant(ir.IntType(64), plane)
        where = self.b.add(self.b.mul(plane, ir.Constant(ir.IntType(64), size)), start)
        return self.b.bitcast(self.b.gep(self.data, [where]), _FLOATS.as_pointer())

    def load(self, plane: Any, start: Any, size: int = PIXELS) -> Any:
        return self.b.load(self._block(plane, start, size), align=4)

    def store(self, plane: Any, start: Any, value: Any, size: int = PIXELS) -> None:
        self.b.store(value, self._block(plane, start, size), align=4)


class _Surfel:
    """One footprint, its planes along x already added up for the tile's columns."""

    def __init__(self, v: _Vectors, footprint: _Memory, dx: Any, limits: tuple[Any, Any]) -> None:
        self.v = v
        self.dx = v.add(v.all(dx), _RAMP)
        f = [footprint.scalar(k) for k in range(FOOTPRINT)]
        self.r0 = v.mul(v.all(f[R0X]), self.dx)
        self.r1 = v.mul(v.all(f[R1X]), self.dx)
        self.r2 = v.madd(v.all(f[R2X]), self.dx, v.all(f[R2]))
        self.q = v.madd(v.all(f[QX]), self.dx, v.all(f[Q]))
        self.low_pass = v.mul(v.mul(self.dx, self.dx), _floats(LOW_PASS))
        self.opacity = v.all(f[OPACITY])
        self.slopes = [v.all(f[k]) for k in (R0Y, R1Y, R2Y, QY)]
        self.limits = [v.all(limit) for limit in limits]

    def row(self, dy: Any) -> dict[str, Any]:
        """r0, r1, r2, q, the squares and weights of a row at ``dy`` (a vector), and which pixels it hits."""
        v, b = self.v, self.v.b
        r0, r1, r2, q = (
            v.madd(slope, dy, along)
            for slope, along in zip(self.slopes, (self.r0, self.r1, self.r2, self.q), strict=True)
        )
        squares = v.madd(r0, r0, v.mul(r1, r1))
        inverse = b.fdiv(_floats(1.0), v.madd(r2, r2, _floats(TINY)))
        disc = v.smaller(v.mul(squares, inverse), _floats(MAX_SQUARE))
        low_pass = v.madd(v.mul(dy, dy), _floats(LOW_PASS), self.low_pass)
        on_disc = b.fcmp_ordered("<=", disc, low_pass)
        exponent = v.mul(b.select(on_disc, disc, low_pass), _floats(-HALF_LOG2_E))
        falloff = _exp2(b, exponent)
        raw = v.mul(self.opacity, falloff)
        hit = b.and_(
            b.fcmp_ordered(">=", raw, _floats(MIN_ALPHA)),
            b.and_(v.less(self.limits[0], q), b.fcmp_ordered("<=", q, self.limits[1])),
        )
        return {
            **{"r0": r0, "r1": r1, "r2": r2, "q": q, "inverse": inverse, "disc": disc},
            **{"on_disc": on_disc, "falloff": falloff, "raw": raw, "hit": hit},
        }


def _row_start(b: ir.IRBuilder, index: Any) -> Any:
    return b.mul(index, ir.Constant(ir.IntType(64), LANES))


def _row_dy(v: _Vectors, dy: Any, index: Any) -> Any:
    return v.all(v.add(dy, v.b.sitofp(index, ir.FloatType())))


def _blend_row(v: _Vectors, tile: _Memory, start: Any, surfel: _Surfel, dy: Any, rest: Sequence[Any]) -> None:
    b, (values, num_values, place) = v.b, rest
    stored = tile.load(LIGHT, start)
    light = v.masked(v.less(_floats(0.0), stored), stored)
    hits = surfel.row(dy)
    hit = b.and_(hits["hit"], v.less(_floats(0.0), light))
    with v.if_any(hit):
        alpha = v.masked(hit, v.smaller(hits["raw"], _floats(MAX_ALPHA)))
        weight = v.mul(light, alpha)
        after = v.sub(light, weight)
        goes_on = v.less(_floats(MIN_TRANSMITTANCE), after)
        blend = b.and_(hit, goes_on)
        ended = b.select(hit, b.select(goes_on, after, b.fneg(light)), stored)
        tile.store(LIGHT, start, ended)
        weight = v.masked(blend, weight)
        median = b.and_(blend, v.less(_floats(MEDIAN_TRANSMITTANCE), light))
        tile.store(MEDIAN, start, b.select(median, hits["q"], tile.load(MEDIAN, start)))
        tile.store(MEDIAN_AT, start, b.select(median, place, tile.load(MEDIAN_AT, start)))
        tile.store(LAST_AT, start, b.select(blend, place, tile.load(LAST_AT, start)))
        first = v.mul(weight, hits["q"])
        tile.store(FIRST, start, v.add(tile.load(FIRST, start), first))
        tile.store(SECOND, start, v.madd(first, hits["q"], tile.load(SECOND, start)))
        with cgutils.for_range(b, num_values) as channel:
            plane = b.add(channel.index, ir.Constant(ir.IntType(64), VALUES))
            value = v.all(values.scalar_at(channel.index))
            tile.store(plane, start, v.madd(weight, value, tile.load(plane, start)))


@intrinsic
def blend_surfel(typingctx, tile, footprints, where, values, first_value, num_values, first_row, end_row,
                 dx, dy, lowest, highest, place):  # fmt: skip
    """Blend one surfel into rows [first_row, end_row) of a tile (VALUES + K planes, flat).

    where, first_value: its offsets in the flat footprints and values. dy: at row 0 of the tile.
    """
    signature = types.void(
        tile, footprints, types.int64, values, *(types.int64,) * 4, *(types.float32,) * 5
    )  # fmt: skip

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        v, kinds = _Vectors(b), sig.args
        zero = ir.Constant(ir.IntType(64), 0)
        planes = _Memory(context, b, kinds[0], args[0], zero)
        footprint = _Memory(context, b, kinds[1], args[1], args[2])
        colours = _Memory(context, b, kinds[3], args[3], args[4])
        surfel = _Surfel(v, footprint, args[8], (args[10], args[11]))
        rest = (colours, args[5], v.all(args[12]))
        with cgutils.for_range_slice(b, args[6], args[7], ir.Constant(ir.IntType(64), 1)) as (row, _):
            _blend_row(v, planes, _row_start(b, row), surfel, _row_dy(v, args[9], row), rest)
        return context.get_dummy_value()

    return signature, generate


def _gather_row(
    v: _Vectors, tile: _Memory, start: Any, surfel: _Surfel, dy: Any, rest: Sequence[Any]
) -> None:
    b, (values, num_values, place, lanes, sums) = v.b, rest
    hits = surfel.row(dy)
    hit = b.and_(hits["hit"], b.fcmp_ordered("<=", place, tile.load(BACK_LAST_AT, start)))
    with v.if_any(hit):
        alpha = v.masked(hit, v.smaller(hits["raw"], _floats(MAX_ALPHA)))
        beyond = b.fdiv(_floats(1.0), v.sub(_floats(1.0), alpha))
        light = v.mul(tile.load(BACK_LIGHT, start), beyond)
        tile.store(BACK_LIGHT, start, light)
        weight = v.mul(light, alpha)
        q, d_second = hits["q"], v.mul(tile.load(D_SECOND, start), hits["q"])
        d_first = v.add(tile.load(D_FIRST, start), d_second)
        median = b.fcmp_ordered("==", place, tile.load(BACK_MEDIAN_AT, start))
        d_median = v.masked(median, tile.load(D_MEDIAN, start))
        d_q = v.masked(hit, v.madd(weight, v.add(d_first, d_second), d_median))
        effect = cgutils.alloca_once_value(b, v.mul(q, d_first))
        with cgutils.for_range(b, num_values) as channel:
            plane = b.add(channel.index, ir.Constant(ir.IntType(64), D_VALUES))
            d_value = tile.load(plane, start)
            value = v.all(values.scalar_at(channel.index))
            b.store(v.madd(d_value, value, b.load(effect)), effect)
            zero = ir.Constant(ir.IntType(64), 0)
            total = lanes.load(channel.index, zero, LANES)
            lanes.store(channel.index, zero, v.madd(weight, d_value, total), LANES)
        behind = tile.load(BEHIND, start)
        d_alpha = v.sub(v.mul(light, b.load(effect)), v.mul(behind, beyond))
        tile.store(BEHIND, start, v.madd(weight, b.load(effect), behind))
        free = b.and_(hit, b.fcmp_ordered("<=", hits["raw"], _floats(MAX_ALPHA)))
        d_alpha = v.masked(free, d_alpha)
        d_square = v.mul(v.mul(d_alpha, hits["raw"]), _floats(-0.5))
        d_low_pass = v.masked(b.not_(hits["on_disc"]), d_square)
        scaled = v.mul(v.mul(v.masked(hits["on_disc"], d_square), _floats(2.0)), hits["inverse"])
        d_r2 = v.mul(v.mul(scaled, hits["disc"]), b.fneg(hits["r2"]))
        moments = (v.mul(scaled, hits["r0"]), v.mul(scaled, hits["r1"]), d_r2, d_q, d_low_pass)
        for which, moment in enumerate(moments):
            b.store(v.add(b.load(sums[2 * which]), moment), sums[2 * which])
            b.store(v.madd(moment, dy, b.load(sums[2 * which + 1])), sums[2 * which + 1])
        b.store(v.madd(d_alpha, hits["falloff"], b.load(sums[-1])), sums[-1])


@intrinsic
def gather_surfel(typingctx, tile, footprints, where, values, first_value, num_values, first_row, end_row,
                  dx, dy, lowest, highest, place, lanes, record, first_entry):  # fmt: skip
    """Write the gradients of one surfel over rows of a tile (D_VALUES + K planes, flat) to its record.

    The first arguments are those of ``blend_surfel``; lanes: scratch of K LANES floats; record: flat, with
    GRADIENTS floats and the gradients of the K values from ``first_entry`` on.
    """
    signature = types.void(
        *(tile, footprints, types.int64, values, *(types.int64,) * 4, *(types.float32,) * 5),
        *(lanes, record, types.int64),
    )

    def generate(context: Any, b: Any, sig: Any, args: Any) -> Any:
        v, kinds = _Vectors(b), sig.args
        zero = ir.Constant(ir.IntType(64), 0)
        planes = _Memory(context, b, kinds[0], args[0], zero)
        footprint = _Memory(context, b, kinds[1], args[1], args[2])
        colours = _Memory(context, b, kinds[3], args[3], args[4])
        scratch = _Memory(context, b, kinds[13], args[13], zero)
        out = _Memory(context, b, kinds[14], args[14], args[15])
        surfel = _Surfel(v, footprint, args[8], (args[10], args[11]))
        with cgutils.for_range(b, args[5]) as channel:
            scratch.store(channel.index, zero, _floats(0.0), LANES)
        sums = [cgutils.alloca_once_value(b, _floats(0.0)) for _ in range(11)]
        rest = (colours, args[5], v.all(args[12]), scratch, sums)
        with cgutils.for_range_slice(b, args[6], args[7], ir.Constant(ir.IntType(64), 1)) as (row, _):
            _gather_row(v, planes, _row_start(b, row), surfel, _row_dy(v, args[9], row), rest)
        totals = [b.load(total) for total in sums]
        for which in range(4):
            out.put_scalar(3 * which, v.total(totals[2 * which]))
            out.put_scalar(3 * which + 1, v.total(v.mul(totals[2 * which], surfel.dx)))
            out.put_scalar(3 * which + 2, v.total(totals[2 * which + 1]))
        out.put_scalar(12, v.total(v.mul(totals[8], surfel.dx)))
        out.put_scalar(13, v.total(totals[9]))
        out.put_scalar(14, v.total(totals[10]))
        with cgutils.for_range(b, args[5]) as channel:
            at = b.add(channel.index, ir.Constant(ir.IntType(64), GRADIENTS))
            out.put_scalar_at(at, v.total(scratch.load(channel.index, zero, LANES)))
        return context.get_dummy_value()

    return signature, generate
