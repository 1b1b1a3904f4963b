"""Loops of convolution where each group has one channel and kernels of 3×3, at stride 1, compiled by numba.

There is nothing to multiply as matrices. Two rows of the output are worked on at a time, 16 numbers of each: what nine
places of the kernel see of the padded image is 12 vectors, which stay in registers while all outputs of the channel (or
all that a gradient comes from) pass by. Imported when first used.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.elementary import RANGE, njit_for
from minigrad.kernels.compiled.simd import LANES, fma, load, splat, store, total

f32 = np.float32
#: Places whose share of a weight's gradient is summed in float32, in each of 16 sums a sixteenth.
PLACES = 1 << 14


@numba.njit(inline="always", error_model="numpy")
def _three(flat, i, count):
    """What a kernel's row sees of up to 16 neighbours."""
    return load(flat, i, count), load(flat, i + 1, count), load(flat, i + 2, count)


@numba.njit(inline="always", error_model="numpy")
def _added(value, u, a, b, c):
    return fma(u[2], c, fma(u[1], b, fma(u[0], a, value)))


@numba.njit(inline="always", error_model="numpy")
def _twice_added(values, others, rows, w):
    """Two rows of a convolution, each as three sums: the nine weights on rows 0 to 2, and on rows 1 to 3."""
    a, b, c = splat(w[0]), splat(w[1]), splat(w[2])
    v0, h0 = _added(values[0], rows[0], a, b, c), _added(others[0], rows[1], a, b, c)
    a, b, c = splat(w[3]), splat(w[4]), splat(w[5])
    v1, h1 = _added(values[1], rows[1], a, b, c), _added(others[1], rows[2], a, b, c)
    a, b, c = splat(w[6]), splat(w[7]), splat(w[8])
    return (v0, v1, _added(values[2], rows[2], a, b, c)), (h0, h1, _added(others[2], rows[3], a, b, c))


@numba.njit(inline="always", error_model="numpy")
def _four_rows(flat, i, wide, count):
    return (_three(flat, i, count), _three(flat, i + wide, count), _three(flat, i + 2 * wide, count),
            _three(flat, i + 3 * wide, count))


@numba.njit(error_model="numpy", cache=True, nogil=True)
def laid_out(x, place, rows, length, flat, start, wide):
    """Copy rows of a vector, from `place` on, to where rows are `wide` apart, from `start` on."""
    for i in range(rows):
        for j in range(0, length, LANES):
            count = min(LANES, length - j)
            store(flat, start + i * wide + j, load(x, place + i * length + j, count), count)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def spread_to_outputs(flat, wide, w, bias, y, place, high_out, wide_out):
    """The outputs (O, high_out, wide_out), in the vector y from `place` on, of a padded channel with rows of `wide`."""
    none = splat(f32(0))
    for i in range(0, high_out, 2):
        for j in range(0, wide_out, LANES):
            rows = _four_rows(flat, i * wide + j, wide, LANES)
            count = min(LANES, wide_out - j)
            for o in range(w.shape[0]):
                start = splat(bias[o]), none, none
                v, h = _twice_added(start, start, rows, w[o])
                at = place + (o * high_out + i) * wide_out + j
                store(y, at, v[0] + v[1] + v[2], count)
                store(y, at + wide_out, h[0] + h[1] + h[2], count if i + 1 < high_out else 0)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def gathered_from_outputs(flat, size, wide, turned, gx, place, high, length):
    """The channel's gradient (high, length), in the vector gx from `place` on; padded outputs' gradients have `size`
    numbers each, in rows of `wide`; kernels are turned round.
    """
    none = splat(f32(0))
    for i in range(0, high, 2):
        for j in range(0, length, LANES):
            v, h = (none, none, none), (none, none, none)  # several sums: each waits for itself alone
            for o in range(turned.shape[0]):
                seen = _four_rows(flat, o * size + i * wide + j, wide, LANES)
                v, h = _twice_added(v, h, seen, turned[o])
            at, count = place + i * length + j, min(LANES, length - j)
            store(gx, at, v[0] + v[1] + v[2], count)
            store(gx, at + length, h[0] + h[1] + h[2], count if i + 1 < high else 0)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def added_to_weight(flat, wide, gy, place, low, high, wide_out, sums, first):
    """What the rows from `low` to `high` of one output's gradient, in the vector gy from `place` on, add to nine times
    16 sums from `first` on.
    """
    s0, s1, s2 = load(sums, first, LANES), load(sums, first + 16, LANES), load(sums, first + 32, LANES)
    s3, s4, s5 = load(sums, first + 48, LANES), load(sums, first + 64, LANES), load(sums, first + 80, LANES)
    s6, s7, s8 = load(sums, first + 96, LANES), load(sums, first + 112, LANES), load(sums, first + 128, LANES)
    for i in range(low, high, 2):
        for j in range(0, wide_out, LANES):
            at, count = place + i * wide_out + j, min(LANES, wide_out - j)
            a, b, c, d = _four_rows(flat, i * wide + j, wide, count)  # no more: 0·NaN would be NaN
            g = load(gy, at, count)
            s0, s1, s2 = fma(g, a[0], s0), fma(g, a[1], s1), fma(g, a[2], s2)
            s3, s4, s5 = fma(g, b[0], s3), fma(g, b[1], s4), fma(g, b[2], s5)
            s6, s7, s8 = fma(g, c[0], s6), fma(g, c[1], s7), fma(g, c[2], s8)
            if i + 1 < high:
                h = load(gy, at + wide_out, count)
                s0, s1, s2 = fma(h, b[0], s0), fma(h, b[1], s1), fma(h, b[2], s2)
                s3, s4, s5 = fma(h, c[0], s3), fma(h, c[1], s4), fma(h, c[2], s5)
                s6, s7, s8 = fma(h, d[0], s6), fma(h, d[1], s7), fma(h, d[2], s8)
    for k, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8)):
        store(sums, first + k * LANES, s, LANES)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def flush(sums, begin, end, totals):
    """Each 16 sums of the outputs from `begin` to `end` added to one element of totals (O, 9), and set to 0."""
    for o in range(begin, end):
        for k in range(9):
            i = (o * 9 + k) * LANES
            totals[o, k] += total(load(sums, i, LANES))
            sums[i : i + LANES] = f32(0)


def nine(parallel):
    """The three of `minigrad.kernels.compiled.windows.single`, for such kernels and padding of up to 2."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, w, bias, kernel, stride, pads, dilation, high, wide, row, y, parts):
        out, flat_x, flat_y = w.shape[1], x.reshape(x.size), y.reshape(y.size)
        tall, length, size = x.shape[2], x.shape[3], y.shape[2] * y.shape[3]
        for part in span(parts):
            flat = np.zeros((high + 1) * wide + 2 * LANES, f32)  # what is read behind the image is thrown away
            for n in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                for c in range(x.shape[1]):
                    laid_out(flat_x, (n * x.shape[1] + c) * tall * length, tall, length, flat, pads[0] * wide + pads[1],
                             wide)
                    spread_to_outputs(flat, wide, w[c], bias[c * out : c * out + out], flat_y,
                                      (n * y.shape[1] + c * out) * size, y.shape[2], y.shape[3])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def to_input(gy, w, kernel, stride, pads, dilation, high, wide, row, gx, parts):
        out, flat_x, flat_y = w.shape[1], gx.reshape(gx.size), gy.reshape(gy.size)
        turned = np.ascontiguousarray(w[:, :, ::-1])
        tall, length = gx.shape[2], gx.shape[3]
        far = length + 2
        size, start = (tall + 2) * far, (2 - pads[0]) * far + 2 - pads[1]
        for part in span(parts):
            flat = np.zeros(out * size + far + 2 * LANES, f32)
            for n in range(gy.shape[0] * part // parts, gy.shape[0] * (part + 1) // parts):
                for c in range(gx.shape[1]):
                    for o in range(out):
                        laid_out(flat_y, (n * gy.shape[1] + c * out + o) * gy.shape[2] * gy.shape[3], gy.shape[2],
                                 gy.shape[3], flat, o * size + start, far)
                    gathered_from_outputs(flat, size, far, turned[c], flat_x, (n * gx.shape[1] + c) * tall * length,
                                          tall, length)

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def to_weight(gy, x, kernel, stride, pads, dilation, high, wide, row, gw, parts):
        out, flat_x, flat_y = gw.shape[2], x.reshape(x.size), gy.reshape(gy.size)
        tall, length, rows, size = x.shape[2], x.shape[3], gy.shape[2], gy.shape[2] * gy.shape[3]
        band = max(2, PLACES // gy.shape[3] // 2 * 2)  # of rows, after which a large image's sums are put away
        for part in span(parts):
            flat = np.zeros((high + 1) * wide + 2 * LANES, f32)
            sums, totals, done = np.zeros(gy.shape[1] * 9 * LANES, f32), np.zeros((gy.shape[1], 9)), 0
            for n in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                for c in range(x.shape[1]):
                    laid_out(flat_x, (n * x.shape[1] + c) * tall * length, tall, length, flat, pads[0] * wide + pads[1],
                             wide)
                    for low in range(0, rows, band):
                        for o in range(c * out, c * out + out):
                            added_to_weight(flat, wide, flat_y, (n * gy.shape[1] + o) * size, low,
                                            min(low + band, rows), gy.shape[3], sums, o * 9 * LANES)
                        if band < rows:
                            flush(sums, c * out, c * out + out, totals)
                done += size
                if done >= PLACES:
                    flush(sums, 0, gy.shape[1], totals)
                    done = 0
            flush(sums, 0, gy.shape[1], totals)
            for o in range(gy.shape[1]):
                for k in range(9):
                    gw[part, o // out, o % out, k] = totals[o, k]

    return forward, to_input, to_weight
