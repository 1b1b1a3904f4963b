"""Loops of convolution over two axes, float32, compiled by numba; imported when first used.

Every thread takes its share of the images, one after the other: pads an image with zeros, lays out its columns (what
each place of the kernel sees), and multiplies. At stride 1 columns are runs of the padded image as it lies in memory:
output rows are then as long as padded input rows, what hangs over is computed and thrown away, and laying out a column
is one copy. Convolutions of one channel (and those with a channel to each group) are done place by place without any
product of matrices.
"""

from __future__ import annotations

import numba
import numpy as np

from minigrad.kernels.compiled.blas import sgemm
from minigrad.kernels.compiled.elementary import RANGE, njit_for

f32 = np.float32
_sgemm = sgemm()
N, T = 78, 84  # the letters of BLAS for "as it is" and "transposed"
NOTHING = np.zeros(1, f32)


@numba.njit(inline="always")
def gemm(ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc, whole, real):
    """Row-major C (m, n) = op(A)·op(B) + beta·C, by addresses; BLAS sees the transposes of all three.

    `whole` (8, int32) and `real` (2, float32) hold the numbers, which BLAS wants by address.
    """
    whole[0], whole[1], whole[2], whole[3], whole[4] = tb, ta, n, m, k
    whole[5], whole[6], whole[7] = ldb, lda, ldc
    real[0], real[1] = f32(1), beta
    i, r = whole.ctypes.data, real.ctypes.data
    _sgemm(i, i + 4, i + 8, i + 12, i + 16, r, b, i + 20, a, i + 24, r + 4, c, i + 28)


@numba.njit(error_model="numpy", cache=True, nogil=True)
def padded_into(x, top, left, out):
    """x (C, H, W) inside out (C, H', W'), whose border holds zeros."""
    for c in range(x.shape[0]):
        for h in range(x.shape[1]):
            source, target = x[c, h], out[c, h + top, left : left + x.shape[2]]
            for w in range(source.shape[0]):
                target[w] = source[w]


@numba.njit(error_model="numpy", cache=True, nogil=True)
def cropped_into(padded, top, left, out):
    """What is inside the border of padded (C, H', W')."""
    for c in range(out.shape[0]):
        for h in range(out.shape[1]):
            source, target = padded[c, h + top, left : left + out.shape[2]], out[c, h]
            for w in range(target.shape[0]):
                target[w] = source[w]


@numba.njit(error_model="numpy", cache=True, nogil=True)
def columns_of(padded, kernel, stride, dilation, lengths, row, out):
    """The columns of an image (C, H', W') in out (C·places, row·(OH − 1) + OW or OH·OW)."""
    channels, _, wide = padded.shape
    flat = padded.reshape(channels, padded.shape[1] * wide)
    i = 0
    for c in range(channels):
        for p in range(kernel[0]):
            for q in range(kernel[1]):
                start = p * dilation[0] * wide + q * dilation[1]
                target = out[i]
                i += 1
                if stride[0] == 1 and stride[1] == 1:
                    source = flat[c, start : start + target.shape[0]]
                    for j in range(target.shape[0]):
                        target[j] = source[j]
                else:
                    for h in range(lengths[0]):
                        source = flat[c, start + h * stride[0] * wide :]
                        line = target[h * row : h * row + lengths[1]]
                        for w in range(lengths[1]):
                            line[w] = source[w * stride[1]]


@numba.njit(error_model="numpy", cache=True, nogil=True)
def columns_added(columns, kernel, stride, dilation, lengths, row, out):
    """The adjoint of `columns_of`: columns added to out (C, H', W'), which holds zeros."""
    channels, _, wide = out.shape
    flat = out.reshape(channels, out.shape[1] * wide)
    i = 0
    for c in range(channels):
        for p in range(kernel[0]):
            for q in range(kernel[1]):
                start = p * dilation[0] * wide + q * dilation[1]
                source = columns[i]
                i += 1
                if stride[0] == 1 and stride[1] == 1:
                    target = flat[c, start : start + source.shape[0]]
                    for j in range(source.shape[0]):
                        target[j] += source[j]
                else:
                    for h in range(lengths[0]):
                        target = flat[c, start + h * stride[0] * wide :]
                        line = source[h * row : h * row + lengths[1]]
                        for w in range(lengths[1]):
                            target[w * stride[1]] += line[w]


@numba.njit(error_model="numpy", cache=True, nogil=True)
def spread_rows(g, row, out):
    """g (O, OH, OW) in out (O, row·OH) with rows of length `row`, whose other elements hold zeros."""
    for o in range(g.shape[0]):
        for h in range(g.shape[1]):
            source, target = g[o, h], out[o, h * row : h * row + g.shape[2]]
            for w in range(source.shape[0]):
                target[w] = source[w]


@numba.njit(error_model="numpy", cache=True, nogil=True)
def gathered_rows(rows, bias, row, out):
    """The adjoint of `spread_rows`, with the bias added."""
    for o in range(out.shape[0]):
        b = bias[o]
        for h in range(out.shape[1]):
            source, target = rows[o, h * row : h * row + out.shape[2]], out[o, h]
            for w in range(target.shape[0]):
                target[w] = source[w] + b


def weight_products(parallel):
    """The gradient of the weight by products of matrices: the third of `products`."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def to_weight(gy, x, kernel, stride, pads, dilation, high, wide, row, gw, parts):
        """`gw` is (parts, G, O/G, K): every part of the images sums its own."""
        _, groups, out, length = gw.shape
        lengths = gy.shape[2], gy.shape[3]
        inner = x.shape[1] // groups
        places = row * (lengths[0] - 1) + lengths[1]
        for part in span(parts):
            padded = np.zeros((x.shape[1], high, wide), f32)
            columns = np.empty((length, places), f32)
            rows = np.zeros((out, row * lengths[0]), f32)
            whole, real = np.empty(8, np.int32), np.empty(2, f32)
            gw[part] = f32(0)
            for n in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                padded_into(x[n], pads[0], pads[1], padded)
                for g in range(groups):
                    columns_of(padded[g * inner : (g + 1) * inner], kernel, stride, dilation, lengths, row, columns)
                    spread_rows(gy[n, g * out : (g + 1) * out], row, rows)
                    gemm(N, T, out, length, places, rows.ctypes.data, rows.shape[1], columns.ctypes.data, places,
                         f32(1), gw[part, g].ctypes.data, length, whole, real)

    return to_weight


def products(parallel):
    """(forward, gradient of the input, gradient of the weight) by products of matrices.

    x (N, C, H, W), w (G, O/G, K) with K = C/G·places, y (N, O, OH, OW); `high`, `wide` are the padded lengths. Threads
    have rooms of their own.
    """
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, w, bias, kernel, stride, pads, dilation, high, wide, row, y, parts):
        groups, out, length = w.shape
        lengths = y.shape[2], y.shape[3]
        inner = x.shape[1] // groups
        places = row * (lengths[0] - 1) + lengths[1]
        for part in span(parts):
            padded = np.zeros((x.shape[1], high, wide), f32)
            columns = np.empty((length, places), f32)
            rows = np.empty((out, row * lengths[0]), f32)
            whole, real = np.empty(8, np.int32), np.empty(2, f32)
            for n in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                padded_into(x[n], pads[0], pads[1], padded)
                for g in range(groups):
                    columns_of(padded[g * inner : (g + 1) * inner], kernel, stride, dilation, lengths, row, columns)
                    gemm(N, N, out, places, length, w[g].ctypes.data, length, columns.ctypes.data, places, f32(0),
                         rows.ctypes.data, rows.shape[1], whole, real)
                    gathered_rows(rows, bias[g * out : (g + 1) * out], row, y[n, g * out : (g + 1) * out])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def to_input(gy, w, kernel, stride, pads, dilation, high, wide, row, gx, parts):
        groups, out, length = w.shape
        lengths = gy.shape[2], gy.shape[3]
        inner = gx.shape[1] // groups
        places = row * (lengths[0] - 1) + lengths[1]
        for part in span(parts):
            padded = np.empty((gx.shape[1], high, wide), f32)
            columns = np.empty((length, places), f32)
            rows = np.zeros((out, row * lengths[0]), f32)
            whole, real = np.empty(8, np.int32), np.empty(2, f32)
            for n in range(gy.shape[0] * part // parts, gy.shape[0] * (part + 1) // parts):
                padded[:] = f32(0)
                for g in range(groups):
                    spread_rows(gy[n, g * out : (g + 1) * out], row, rows)
                    gemm(T, N, length, places, out, w[g].ctypes.data, length, rows.ctypes.data, rows.shape[1], f32(0),
                         columns.ctypes.data, places, whole, real)
                    columns_added(columns, kernel, stride, dilation, lengths, row, padded[g * inner : (g + 1) * inner])
                cropped_into(padded, pads[0], pads[1], gx[n])

    return forward, to_input, weight_products(parallel)


@numba.njit(fastmath={"contract"}, error_model="numpy", cache=True, nogil=True)
def single_added(flat, w, kernel, dilation, wide, line):
    """line += Σ over the places of the kernel of w·(flat, shifted): three places of a kernel's row at a time."""
    n = line.shape[0]
    for p in range(kernel[0]):
        q = 0
        while q + 3 <= kernel[1]:
            start = p * dilation[0] * wide + q * dilation[1]
            a, b, c = w[p * kernel[1] + q], w[p * kernel[1] + q + 1], w[p * kernel[1] + q + 2]
            v0, v1 = flat[start : start + n], flat[start + dilation[1] : start + dilation[1] + n]
            v2 = flat[start + 2 * dilation[1] : start + 2 * dilation[1] + n]
            for i in range(n):
                line[i] += (a * v0[i] + b * v1[i]) + c * v2[i]
            q += 3
        while q < kernel[1]:
            start = p * dilation[0] * wide + q * dilation[1]
            a, v = w[p * kernel[1] + q], flat[start : start + n]
            for i in range(n):
                line[i] += a * v[i]
            q += 1


@numba.njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy", cache=True, nogil=True)
def single_to_weight(flat, line, kernel, dilation, wide, gw):
    """gw += Σ line·(flat, shifted) for each place of the kernel; three places of a kernel's row at a time."""
    n = line.shape[0]
    for p in range(kernel[0]):
        q = 0
        while q + 3 <= kernel[1]:
            start = p * dilation[0] * wide + q * dilation[1]
            v0, v1 = flat[start : start + n], flat[start + dilation[1] : start + dilation[1] + n]
            v2 = flat[start + 2 * dilation[1] : start + 2 * dilation[1] + n]
            a = b = c = f32(0)
            for i in range(n):
                a += line[i] * v0[i]
                b += line[i] * v1[i]
                c += line[i] * v2[i]
            gw[p * kernel[1] + q] += a
            gw[p * kernel[1] + q + 1] += b
            gw[p * kernel[1] + q + 2] += c
            q += 3
        while q < kernel[1]:
            start = p * dilation[0] * wide + q * dilation[1]
            v = flat[start : start + n]
            a = f32(0)
            for i in range(n):
                a += line[i] * v[i]
            gw[p * kernel[1] + q] += a
            q += 1


def single(parallel):
    """The three of `products` where each group has one channel, at stride 1; w (G, O/G, places)."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def forward(x, w, bias, kernel, stride, pads, dilation, high, wide, row, y, parts):
        channels, out = x.shape[1], w.shape[1]
        places = row * (y.shape[2] - 1) + y.shape[3]
        for part in span(parts):
            padded, rows = np.zeros((channels, high, wide), f32), np.empty((1, row * y.shape[2]), f32)
            flat = padded.reshape(channels, high * wide)
            for n in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                padded_into(x[n], pads[0], pads[1], padded)
                for o in range(y.shape[1]):
                    g = o // out
                    rows[:] = bias[o]
                    single_added(flat[g], w[g, o % out], kernel, dilation, wide, rows[0, :places])
                    gathered_rows(rows, NOTHING, row, y[n, o : o + 1])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def to_input(gy, w, kernel, stride, pads, dilation, high, wide, row, gx, parts):
        """With zeros in front of the rows, it is a convolution with the kernel turned round."""
        channels, out = gx.shape[1], w.shape[1]
        front = (kernel[0] - 1) * dilation[0] * wide + (kernel[1] - 1) * dilation[1]
        turned = np.ascontiguousarray(w[:, :, ::-1])
        for part in span(parts):
            rows, padded = np.zeros((1, 2 * front + row * gy.shape[2]), f32), np.empty((channels, high, wide), f32)
            flat = padded.reshape(channels, high * wide)
            for n in range(gy.shape[0] * part // parts, gy.shape[0] * (part + 1) // parts):
                padded[:] = f32(0)
                for o in range(gy.shape[1]):
                    spread_rows(gy[n, o : o + 1], row, rows[:, front:])
                    single_added(rows[0], turned[o // out, o % out], kernel, dilation, wide, flat[o // out])
                cropped_into(padded, pads[0], pads[1], gx[n])

    @njit_for((parallel,), parallel=parallel, error_model="numpy", cache=True, nogil=True)
    def to_weight(gy, x, kernel, stride, pads, dilation, high, wide, row, gw, parts):
        """`gw` is (parts, G, O/G, places): every part of the images sums its own."""
        channels, out = x.shape[1], gw.shape[2]
        places = row * (gy.shape[2] - 1) + gy.shape[3]
        for part in span(parts):
            padded, rows = np.zeros((channels, high, wide), f32), np.zeros((1, row * gy.shape[2]), f32)
            flat = padded.reshape(channels, high * wide)
            gw[part] = f32(0)
            for n in range(x.shape[0] * part // parts, x.shape[0] * (part + 1) // parts):
                padded_into(x[n], pads[0], pads[1], padded)
                for o in range(gy.shape[1]):
                    spread_rows(gy[n, o : o + 1], row, rows)
                    g = o // out
                    single_to_weight(flat[g], rows[0, :places], kernel, dilation, wide, gw[part, g, o % out])

    return forward, to_input, to_weight


def channel_sums(parallel):
    """The function out (C,) = Σ of g (N, C, L) over images and places."""
    span = RANGE[parallel]

    @njit_for((parallel,), parallel=parallel, error_model="numpy", fastmath={"reassoc", "nsz"}, cache=True, nogil=True)
    def run(g, out):
        for c in span(g.shape[1]):
            total = 0.0
            for n in range(g.shape[0]):
                part = f32(0)
                line = g[n, c]
                for i in range(line.shape[0]):
                    part += line[i]
                total += part
            out[c] = total

    return run
