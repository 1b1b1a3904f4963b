"""Instructions on several windows at once, written out for the compiler, which does not find them by itself.

Windows of two or three elements lie too close for its own vectors: it would load each element by itself. Here `lanes`
neighbouring windows are read by a few wide loads and sorted by shuffles. What is written past the last window of a row
is overwritten by the next row: callers go through rows in rising order, and see to it that there is room.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["largest_of_windows", "spread_to_windows"]

INT = ir.IntType(32)
#: Makes an instruction of a function that writes it; numbers that are known when it is compiled come as such.
instruction: Any = intrinsic(prefer_literal=True)


def _vector(builder, kind, number):
    """A vector with one number in all of its elements."""
    length = ir.Constant(ir.VectorType(INT, kind.count), [0] * kind.count)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), length)


def _picked(builder, a, b, order):
    """The elements of the vectors a and b, one after the other, whose places `order` lists."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, len(order)), order))


def _address(context, builder, array, value, index, kind):
    """Where a vector lies that begins at an element of an array without gaps."""
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@instruction
def largest_of_windows(typingctx, x, start, row, y, which, k, high, wide, right, lanes):
    """The largest elements of `lanes` windows of (high, wide), `right` apart, in y from k on; their places in `which`.

    x, y and which are vectors; the first window begins at x[start], and rows of x are `row` long. NaN is larger than
    everything; the first of equals stays. Reads x up to the last row's ``(lanes − 1)·right + wide`` elements.
    """
    literals = high, wide, right, lanes  # in the signature as such: numba tells one version from another by it
    high, wide, right, lanes = [n.literal_value for n in literals]
    signature = types.void(x, types.intp, types.intp, y, which, types.intp, *literals)

    def codegen(context, builder, signature, args):
        number, size = context.get_data_type(x.dtype), x.dtype.bitwidth // 8
        line = ir.VectorType(number, (lanes - 1) * right + wide)
        found, places = ir.VectorType(number, lanes), ir.VectorType(INT, lanes)
        best = place = None
        for p in range(high):
            at = builder.add(args[1], builder.mul(args[2], ir.Constant(args[2].type, p)))
            read = builder.load(_address(context, builder, x, args[0], at, line), align=size)
            for q in range(wide):
                v = _picked(builder, read, ir.Constant(line, ir.Undefined), [q + i * right for i in range(lanes)])
                if best is None:
                    best, place = v, ir.Constant(places, [0] * lanes)
                    continue
                nan = builder.and_(builder.fcmp_unordered("uno", v, v), builder.fcmp_ordered("ord", best, best))
                larger = builder.or_(builder.fcmp_ordered(">", v, best), nan)
                best = builder.select(larger, v, best)
                place = builder.select(larger, ir.Constant(places, [p * wide + q] * lanes), place)
        builder.store(best, _address(context, builder, y, args[3], args[5], found), align=size)
        builder.store(place, _address(context, builder, which, args[4], args[5], places), align=4)
        return context.get_dummy_value()

    return signature, codegen


@instruction
def spread_to_windows(typingctx, g, which, k, p, out, start, wide, lanes):
    """Row p of `lanes` windows that touch, `wide` elements each: g from k on, where `which` says so, else 0.

    g, which and out are vectors; writes ``lanes·wide`` elements of out from `start` on.
    """
    literals = wide, lanes
    wide, lanes = [n.literal_value for n in literals]
    signature = types.void(g, which, types.intp, types.intp, out, types.intp, *literals)

    def codegen(context, builder, signature, args):
        number, size = context.get_data_type(g.dtype), g.dtype.bitwidth // 8
        given, places = ir.VectorType(number, lanes), ir.VectorType(INT, lanes)
        v = builder.load(_address(context, builder, g, args[0], args[2], given), align=size)
        place = builder.load(_address(context, builder, which, args[1], args[2], places), align=4)
        first = builder.trunc(builder.mul(args[3], ir.Constant(args[3].type, wide)), INT)
        line = ir.Constant(given, ir.Undefined)
        for q in range(wide):
            named = _vector(builder, places, builder.add(first, ir.Constant(INT, q)))
            column = builder.select(builder.icmp_signed("==", place, named), v, ir.Constant(given, [0.0] * lanes))
            if q:  # a shuffle takes vectors of one length: the new column is widened to that of those before
                column = _picked(builder, column, column, [i % lanes for i in range(q * lanes)])
                before = [range(i * q, i * q + q) for i in range(lanes)]
                line = _picked(builder, line, column, [n for i in range(lanes) for n in (*before[i], q * lanes + i)])
            else:
                line = column
        written = ir.VectorType(number, lanes * wide)
        builder.store(line, _address(context, builder, out, args[4], args[5], written), align=size)
        return context.get_dummy_value()

    return signature, codegen
