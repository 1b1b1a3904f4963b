"""A type for compiled functions: 16 float32 numbers that are worked on together, in vector registers.

Compilers find vectors in simple loops by themselves. They do not see that several rows can be worked on at a time, so
that what these share is read and written once. With this type a loop says what stays in registers:
``t = fma(load(x, i, 16), load(y, i, 16), t)``. Machines with shorter registers use several.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from minigrad.kernels.compiled.elementary import EXP, HIGHEST, LN2_HIGH, LN2_LOW, LOG2_E, LOWEST, SHIFT

__all__ = ["LANES", "fma", "load", "relu", "rsqrt", "sigmoid", "splat", "store", "total", "where_positive"]

LANES = 16
INT, FLOAT = ir.IntType(32), ir.FloatType()
NUMBERS, WHOLES = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)
#: A product and a sum may become one instruction, which rounds once.
FUSED = ("contract",)


class _Lanes(types.Type):
    """The type as numba knows it."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = _Lanes()
#: Makes an instruction of a function that writes it.
instruction: Any = intrinsic


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    """The type as the compiler knows it."""

    def __init__(self, manager, kind):
        super().__init__(manager, kind, NUMBERS)


def _all(number: float) -> Any:
    return ir.Constant(NUMBERS, [number] * LANES)


def _spread(builder, kind, number):
    """A vector with one number in all of its elements."""
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(WHOLES, [0] * LANES))


def _address(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), NUMBERS.as_pointer())


def _among_first(builder, count):
    """Which lanes are among the first `count`; known to be all of them where it is known to be 16."""
    places = ir.Constant(WHOLES, list(range(LANES)))
    return builder.icmp_signed("<", places, _spread(builder, WHOLES, builder.trunc(count, INT)))


def _call(builder, name, result, args):
    """One of the compiler's own functions."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _fits(array):
    """Whether an array is a vector of float32 without gaps: else addresses would be wrong."""
    return isinstance(array, types.Array) and (array.dtype, array.ndim, array.layout) == (types.float32, 1, "C")


@instruction
def load(typingctx, array, index, count):
    """The numbers of a vector from an index on, 0 behind the first `count`, which are not read."""

    def codegen(context, builder, signature, args):
        where = _address(context, builder, signature.args[0], args[0], args[1])
        wanted = [where, ir.Constant(INT, 4), _among_first(builder, args[2]), _all(0.0)]
        return _call(builder, "llvm.masked.load.v16f32.p0v16f32", NUMBERS, wanted)

    return (lanes(array, types.intp, types.intp), codegen) if _fits(array) else None


@instruction
def store(typingctx, array, index, value, count):
    """Write the first `count` numbers to a vector from an index on."""

    def codegen(context, builder, signature, args):
        where = _address(context, builder, signature.args[0], args[0], args[1])
        wanted = [args[2], where, ir.Constant(INT, 4), _among_first(builder, args[3])]
        _call(builder, "llvm.masked.store.v16f32.p0v16f32", ir.VoidType(), wanted)
        return context.get_dummy_value()

    return (types.void(array, types.intp, lanes, types.intp), codegen) if _fits(array) else None


@instruction
def splat(typingctx, number):
    """One number, 16 times."""

    def codegen(context, builder, signature, args):
        return _spread(builder, NUMBERS, args[0])

    return lanes(types.float32), codegen


def _binary(function: Any, name: str) -> None:
    """Let an operator of Python work on lanes."""

    @type_callable(function)
    def typed(context):
        return lambda a, b: lanes if a is lanes and b is lanes else None

    @lower_builtin(function, lanes, lanes)
    def lowered(context, builder, signature, args):
        return getattr(builder, name)(*args, flags=FUSED)


for _function, _name in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _binary(_function, _name)


@instruction
def fma(typingctx, a, b, c):
    """a·b + c, rounded once where the machine can."""

    def codegen(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[1], flags=FUSED), args[2], flags=FUSED)

    return lanes(lanes, lanes, lanes), codegen


@instruction
def total(typingctx, value):
    """The sum of the 16 numbers, as float32, halves added to halves."""

    def codegen(context, builder, signature, args):
        v, n = args[0], LANES
        while n > 1:
            n //= 2
            low, high = (builder.shuffle_vector(v, ir.Constant(v.type, ir.Undefined), ir.Constant(
                ir.VectorType(INT, n), list(range(start, start + n)))) for start in (0, n))
            v = builder.fadd(low, high)
        return builder.extract_element(v, ir.Constant(INT, 0))

    return types.float32(lanes), codegen


@instruction
def rsqrt(typingctx, value):
    """1 / √x, of two roundings."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(_all(1.0), _call(builder, "llvm.sqrt.v16f32", NUMBERS, args))

    return lanes(lanes), codegen


@instruction
def relu(typingctx, value):
    """max(x, 0); NaN stays."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered("<", args[0], _all(0.0)), _all(0.0), args[0])

    return lanes(lanes), codegen


@instruction
def where_positive(typingctx, value, chosen):
    """The second where the first is above 0, else 0."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", args[0], _all(0.0)), args[1], _all(0.0))

    return lanes(lanes, lanes), codegen


@instruction
def sigmoid(typingctx, value):
    """1 / (1 + e^(−x)), with e^(−x) as `minigrad.kernels.compiled.elementary.exp32` has it."""

    def codegen(context, builder, signature, args):
        def fused(a, b, c):
            return builder.fadd(builder.fmul(a, b, flags=FUSED), c, flags=FUSED)

        x = builder.fsub(_all(-0.0), args[0])
        gone = builder.fcmp_ordered("<", x, _all(float(LOWEST)))
        x = builder.select(builder.fcmp_ordered(">", x, _all(float(HIGHEST))), _all(float(HIGHEST)), x)
        x = builder.select(gone, _all(float(LOWEST)), x)
        shifted = fused(x, _all(float(LOG2_E)), _all(float(SHIFT)))
        n = builder.fsub(shifted, _all(float(SHIFT)))
        r = fused(n, _all(-float(LN2_LOW)), fused(n, _all(-float(LN2_HIGH)), x))
        p = _all(float(EXP[0]))
        for coefficient in EXP[1:]:
            p = fused(p, r, _all(float(coefficient)))
        p = builder.fadd(fused(p, builder.fmul(r, r), r), _all(1.0))
        power = builder.shl(builder.add(builder.bitcast(shifted, WHOLES), ir.Constant(WHOLES, [127] * LANES)),
                            ir.Constant(WHOLES, [23] * LANES))
        e = builder.select(gone, _all(0.0), builder.fmul(p, builder.bitcast(power, NUMBERS)))
        return builder.fdiv(_all(1.0), builder.fadd(e, _all(1.0)))

    return lanes(lanes), codegen
