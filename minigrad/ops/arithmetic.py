"""Functions of two or three elements: arithmetic, powers, extremes, choices, comparisons. All broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.backend import namespace
from minigrad.errors import ArgumentError, DtypeError
from minigrad.op import Op, apply, apply2, describe, inputs, outputs

__all__ = ["add", "clip", "divide", "equal", "floor_divide", "greater", "greater_equal", "less", "less_equal",
           "logical_and", "logical_not", "logical_or", "maximum", "minimum", "multiply", "not_equal", "power",
           "remainder", "subtract", "where"]


class Add(Op):
    """z = x + y;   gx = gz,  gy = gz"""

    broadcasts = True

    def forward(self, x, y):
        return x + y

    def backward(self, saved, needs, gz):
        return gz, gz


class Subtract(Op):
    """z = x − y;   gx = gz,  gy = −gz"""

    broadcasts = True

    def forward(self, x, y):
        return x - y

    def backward(self, saved, needs, gz):
        return gz, (-gz if needs[1] else None)


class Multiply(Op):
    """z = x·y;   gx = gz·y,  gy = gz·x"""

    keeps = inputs(0, when=1) + inputs(1, when=0)
    broadcasts = True

    def forward(self, x, y):
        return x * y

    def backward(self, saved, needs, gz):
        x, y = saved
        return (gz * y if needs[0] else None), (gz * x if needs[1] else None)


class Divide(Op):
    """z = x/y;   gx = gz/y,  gy = −gz·z/y"""

    keeps = inputs(1) + outputs(0, when=1)
    broadcasts = True

    def forward(self, x, y):
        return x / y

    def backward(self, saved, needs, gz):
        y, z = saved
        t = gz / y
        return t, (-(t * z) if needs[1] else None)


class Remainder(Op):
    """z = x − ⌊x/y⌋·y, of the sign of y;   gx = gz,  gy = −gz·⌊x/y⌋"""

    keeps = inputs(0, 1, when=1)
    broadcasts = True

    def forward(self, x, y):
        return namespace(x, y).remainder(x, y)

    def backward(self, saved, needs, gz):
        x, y = saved
        return gz, (-(gz * namespace(x, y).floor_divide(x, y)) if needs[1] else None)


class Power(Op):
    """z = xʸ;   gx = gz·y·x^(y−1), which is 0 where y = 0;   gy = gz·z·ln x, which is 0 where x = 0 and y ≥ 0

    Those two limits are chosen before the power is taken, not masked after it: no 0·∞ is left for the next order.
    """

    keeps = inputs(0) + inputs(1) + outputs(0, when=1)
    broadcasts = True

    def forward(self, x, y):
        if isinstance(y, int) and y < 0 and x.dtype.kind in "iu":
            raise DtypeError("power", got=f"{describe(x)} to the power {y}", wanted="floating point, or a power ≥ 0")
        return x**y

    def backward(self, saved, needs, gz):
        x, y, z = saved
        xp = namespace(gz)
        gx = gy = None
        if needs[0]:
            if isinstance(y, (int, float)):
                gx = xp.zeros_like(gz) if y == 0 else gz * (x ** (y - 1) * y)
            else:
                nonzero = xp.where(y == 0, 1.0, y)
                gx = xp.where(y == 0, 0.0, gz * (nonzero * x ** (nonzero - 1)))
        if needs[1]:
            if isinstance(x, (int, float)):
                gy = xp.where(y >= 0, 0.0, gz * z) if x == 0 else gz * (z * float(np.log(x)))
            else:
                limit = (x == 0) & (y >= 0)
                gy = xp.where(limit, 0.0, gz * (z * xp.log(xp.where(limit, 1.0, x))))
        return gx, gy


class Maximum(Op):
    """z = max(x, y);   the larger one receives gz; equal ones share it evenly"""

    keeps = inputs(0, 1)
    broadcasts = True

    def forward(self, x, y):
        return namespace(x, y).maximum(x, y)

    def backward(self, saved, needs, gz):
        x, y = saved
        return _shared(x > y, x == y, gz, needs)


class Minimum(Op):
    """z = min(x, y);   the smaller one receives gz; equal ones share it evenly"""

    keeps = inputs(0, 1)
    broadcasts = True

    def forward(self, x, y):
        return namespace(x, y).minimum(x, y)

    def backward(self, saved, needs, gz):
        x, y = saved
        return _shared(x < y, x == y, gz, needs)


def _shared(first, tied, gz, needs):
    xp = namespace(gz)
    half = xp.where(tied, gz * 0.5, 0.0)
    gx = xp.where(first, gz, half) if needs[0] else None
    gy = xp.where(first | tied, half, gz) if needs[1] else None
    return gx, gy


class Where(Op):
    """z = x where c, else y;   gx = gz where c,  gy = gz elsewhere"""

    keeps = inputs(0)
    broadcasts = True

    def forward(self, c, x, y):
        return namespace(c, x, y).where(c, x, y)

    def backward(self, saved, needs, gz):
        c = saved[0]
        xp = namespace(gz)
        return None, (xp.where(c, gz, 0.0) if needs[1] else None), (xp.where(c, 0.0, gz) if needs[2] else None)


class Clip(Op):
    """z = min(max(x, low), high), either may be absent;   gx = gz where low ≤ x ≤ high, at the bounds too"""

    keeps = inputs(0, 1, 2)
    broadcasts = True

    def forward(self, x, low, high):
        xp = namespace(x)
        z = x if low is None else xp.maximum(x, low)
        return z if high is None else xp.minimum(z, high)

    def backward(self, saved, needs, gz):
        x, low, high = saved
        xp = namespace(gz)
        gx = gz
        if low is not None:
            gx = xp.where(x >= low, gx, 0.0)
        if high is not None:
            gx = xp.where(x <= high, gx, 0.0)
        g_low = g_high = None
        if needs[1]:
            g_low = xp.where(x < low, gz, 0.0) if high is None else xp.where((x < low) & (low < high), gz, 0.0)
        if needs[2]:
            g_high = xp.where(x > high, gz, 0.0) if low is None else xp.where((x > high) | (low > high), gz, 0.0)
        return gx, g_low, g_high


class _Comparison(Op):
    differentiable = False


class Greater(_Comparison):
    """x > y (bool)"""

    def forward(self, x, y):
        return x > y


class GreaterEqual(_Comparison):
    """x ≥ y (bool)"""

    def forward(self, x, y):
        return x >= y


class Less(_Comparison):
    """x < y (bool)"""

    def forward(self, x, y):
        return x < y


class LessEqual(_Comparison):
    """x ≤ y (bool)"""

    def forward(self, x, y):
        return x <= y


class Equal(_Comparison):
    """x = y (bool)"""

    def forward(self, x, y):
        return x == y


class NotEqual(_Comparison):
    """x ≠ y (bool)"""

    def forward(self, x, y):
        return x != y


class FloorDivide(_Comparison):
    """z = ⌊x/y⌋; its derivative is 0 wherever it has one, so it is never recorded."""

    def forward(self, x, y):
        return namespace(x, y).floor_divide(x, y)


class _Logical(_Comparison):
    def of_bools(self, *xs):
        """Refuse other elements: on integers NumPy's operators work bit by bit."""
        if any(not isinstance(x, bool) and (isinstance(x, (int, float)) or x.dtype.kind != "b") for x in xs):
            raise DtypeError(self.name, got=", ".join(describe(x) for x in xs), wanted="elements of dtype bool")


class LogicalAnd(_Logical):
    """x and y, of bool elements"""

    def forward(self, x, y):
        self.of_bools(x, y)
        return x & y


class LogicalOr(_Logical):
    """x or y, of bool elements"""

    def forward(self, x, y):
        self.of_bools(x, y)
        return x | y


class LogicalNot(_Logical):
    """not x, of bool elements"""

    def forward(self, x):
        self.of_bools(x)
        return namespace(x).logical_not(x)


_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _POWER = Add(), Subtract(), Multiply(), Divide(), Power()
_MAXIMUM, _MINIMUM, _WHERE, _CLIP = Maximum(), Minimum(), Where(), Clip()
_GREATER, _GREATER_EQUAL, _LESS, _LESS_EQUAL = Greater(), GreaterEqual(), Less(), LessEqual()
_EQUAL, _NOT_EQUAL, _AND, _OR, _NOT = Equal(), NotEqual(), LogicalAnd(), LogicalOr(), LogicalNot()
_FLOOR_DIVIDE, _REMAINDER = FloorDivide(), Remainder()


def add(x: Any, y: Any) -> Any:
    """x + y."""
    return apply2(_ADD, x, y)


def subtract(x: Any, y: Any) -> Any:
    """x − y."""
    return apply2(_SUBTRACT, x, y)


def multiply(x: Any, y: Any) -> Any:
    """x · y."""
    return apply2(_MULTIPLY, x, y)


def divide(x: Any, y: Any) -> Any:
    """x / y."""
    return apply2(_DIVIDE, x, y)


def floor_divide(x: Any, y: Any) -> Any:
    """⌊x / y⌋. Never recorded: the derivative is 0 wherever there is one."""
    return apply2(_FLOOR_DIVIDE, x, y)


def remainder(x: Any, y: Any) -> Any:
    """x − ⌊x / y⌋ · y, which has the sign of y, as Python's ``%``."""
    return apply2(_REMAINDER, x, y)


def power(x: Any, y: Any) -> Any:
    """x to the power y. Derivatives stay finite at x = 0 for exponents 0, 1, 2, …, at every order."""
    return apply2(_POWER, x, y)


def maximum(x: Any, y: Any) -> Any:
    """The larger of two; ties share the gradient evenly."""
    return apply2(_MAXIMUM, x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two; ties share the gradient evenly."""
    return apply2(_MINIMUM, x, y)


def where(condition: Any, x: Any, y: Any) -> Any:
    """Elements of `x` where `condition` (bool) holds, else of `y`."""
    return apply(_WHERE, condition, x, y)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """`x` limited to [min, max]; either may be None. The gradient passes at the bounds themselves, as in torch.

    Raises
    ------
    ArgumentError
        Both bounds are None.
    """
    if min is None and max is None:
        raise ArgumentError("clip", got="min=None, max=None", wanted="at least one bound")
    return apply(_CLIP, x, min, max)


def greater(x: Any, y: Any) -> Any:
    """x > y (bool)."""
    return apply2(_GREATER, x, y)


def greater_equal(x: Any, y: Any) -> Any:
    """x ≥ y (bool)."""
    return apply2(_GREATER_EQUAL, x, y)


def less(x: Any, y: Any) -> Any:
    """x < y (bool)."""
    return apply2(_LESS, x, y)


def less_equal(x: Any, y: Any) -> Any:
    """x ≤ y (bool)."""
    return apply2(_LESS_EQUAL, x, y)


def equal(x: Any, y: Any) -> Any:
    """x = y (bool)."""
    return apply2(_EQUAL, x, y)


def not_equal(x: Any, y: Any) -> Any:
    """x ≠ y (bool)."""
    return apply2(_NOT_EQUAL, x, y)


def logical_and(x: Any, y: Any) -> Any:
    """x and y (bool)."""
    return apply2(_AND, x, y)


def logical_or(x: Any, y: Any) -> Any:
    """x or y (bool)."""
    return apply2(_OR, x, y)


def logical_not(x: Any) -> Any:
    """not x (bool)."""
    return apply(_NOT, x)
