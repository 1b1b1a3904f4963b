"""Functions of one element: exp, log, roots, tanh, casts, and the few that NumPy has no name for.

Every text asks `namespace` for its functions, so it runs on arrays and on Tensors. What NumPy lacks (`rsqrt`, `erf`,
`cast`, `stop_gradient`) is called by minigrad's own name, which computes on arrays and records on Tensors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.backend import accumulation_dtype, astype, copied, is_number, namespace, transfer
from minigrad.errors import DtypeError
from minigrad.op import Op, Traced, apply, inputs, outputs

__all__ = ["abs", "cast", "clone", "cos", "erf", "exp", "expm1", "isfinite", "isinf", "isnan", "log", "log1p", "move",
           "negative", "reciprocal", "rsqrt", "sign", "sin", "sqrt", "square", "stop_gradient", "tanh"]


class Negative(Op):
    """y = −x;   gx = −gy"""

    def forward(self, x):
        return -x

    def backward(self, saved, needs, gy):
        return (-gy,)


class Exp(Op):
    """y = eˣ;   gx = gy·y"""

    keeps = outputs(0)

    def forward(self, x):
        return namespace(x).exp(x)

    def backward(self, saved, needs, gy):
        return (gy * saved[0],)


class Expm1(Op):
    """y = eˣ − 1;   gx = gy·(y + 1)"""

    keeps = outputs(0)

    def forward(self, x):
        return namespace(x).expm1(x)

    def backward(self, saved, needs, gy):
        return (gy * (saved[0] + 1),)


class Log(Op):
    """y = ln x;   gx = gy / x"""

    keeps = inputs(0)

    def forward(self, x):
        return namespace(x).log(x)

    def backward(self, saved, needs, gy):
        return (gy / saved[0],)


class Log1p(Op):
    """y = ln(1 + x);   gx = gy / (1 + x)"""

    keeps = inputs(0)

    def forward(self, x):
        return namespace(x).log1p(x)

    def backward(self, saved, needs, gy):
        return (gy / (saved[0] + 1),)


class Sqrt(Op):
    """y = √x;   gx = gy / 2y"""

    keeps = outputs(0)

    def forward(self, x):
        return namespace(x).sqrt(x)

    def backward(self, saved, needs, gy):
        return (gy / (saved[0] * 2),)


class Rsqrt(Op):
    """y = 1/√x;   gx = −½·gy·y³"""

    keeps = outputs(0)

    def forward(self, x):
        return 1 / namespace(x).sqrt(x)

    def backward(self, saved, needs, gy):
        y = saved[0]
        return (gy * (y * y * y) * -0.5,)


class Reciprocal(Op):
    """y = 1/x;   gx = −gy·y²"""

    keeps = outputs(0)

    def forward(self, x):
        return 1 / x

    def backward(self, saved, needs, gy):
        y = saved[0]
        return (-(gy * (y * y)),)


class Square(Op):
    """y = x²;   gx = 2·gy·x"""

    keeps = inputs(0)

    def forward(self, x):
        return x * x

    def backward(self, saved, needs, gy):
        return (gy * (saved[0] * 2),)


class Tanh(Op):
    """y = tanh x;   gx = gy·(1 − y²)"""

    keeps = outputs(0)

    def forward(self, x):
        return namespace(x).tanh(x)

    def backward(self, saved, needs, gy):
        y = saved[0]
        return (gy * (1 - y * y),)


class Sin(Op):
    """y = sin x;   gx = gy·cos x"""

    keeps = inputs(0)

    def forward(self, x):
        return namespace(x).sin(x)

    def backward(self, saved, needs, gy):
        return (gy * namespace(gy).cos(saved[0]),)


class Cos(Op):
    """y = cos x;   gx = −gy·sin x"""

    keeps = inputs(0)

    def forward(self, x):
        return namespace(x).cos(x)

    def backward(self, saved, needs, gy):
        return (-(gy * namespace(gy).sin(saved[0])),)


class Abs(Op):
    """y = |x|;   gx = gy·sign x, which is 0 at 0"""

    keeps = inputs(0)

    def forward(self, x):
        return namespace(x).abs(x)

    def backward(self, saved, needs, gy):
        return (gy * sign(saved[0]),)


class Sign(Op):
    """y = −1, 0 or 1 by the sign of x; its derivative is 0 wherever it has one, so it is never recorded."""

    differentiable = False

    def forward(self, x):
        return namespace(x).sign(x)


class IsNan(Op):
    """Whether each element is NaN (bool)."""

    differentiable = False

    def forward(self, x):
        return namespace(x).isnan(x)


class IsFinite(Op):
    """Whether each element is neither NaN nor infinite (bool)."""

    differentiable = False

    def forward(self, x):
        return namespace(x).isfinite(x)


class IsInf(Op):
    """Whether each element is infinite (bool)."""

    differentiable = False

    def forward(self, x):
        return namespace(x).isinf(x)


class Erf(Op):
    """y = 2/√π ∫₀ˣ e^(−t²) dt;   gx = gy · 2/√π · e^(−x²)

    Rational Chebyshev approximations on |x| ≤ 0.46875, ≤ 4 and beyond (W. J. Cody, Rational Chebyshev approximations
    for the error function, Math. Comp. 23, 1969); within 2 units in the last place of float64.
    """

    keeps = inputs(0)

    def forward(self, x):
        return narrowed(_erf(widened(x)), x.dtype)

    def backward(self, saved, needs, gy):
        x = widened(saved[0])
        return (gy * narrowed(namespace(x).exp(-(x * x)) * (2 / math.sqrt(math.pi)), gy.dtype),)


_NEAR = ((1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
          3.20937758913846947e3),
         (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3))
_MIDDLE = ((2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
            2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
            1.23033935479799725e3),
           (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
            3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3))
_FAR = ((1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
         1.60837851487422766e-2, 6.58749161529837803e-4),
        (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
         2.33520497626869185e-3))


def _ratio(t, coefficients):
    """P(t) / Q(t), both by Horner's rule."""
    above, below = coefficients
    p, q = above[0], below[0]
    for a in above[1:]:
        p = p * t + a
    for b in below[1:]:
        q = q * t + b
    return p / q


def _erf(x):
    xp = namespace(x)
    a = xp.abs(x)
    near = xp.where(a <= 0.46875, x, 0.0)
    middle = xp.where(a > 4.0, 4.0, a)
    far = xp.where(a < 4.0, 4.0, a)
    far = xp.where(far > 27.0, 27.0, far)  # e^(−27²) is 0 in float64
    t = 1 / (far * far)
    tail = xp.exp(-(far * far)) / far * (1 / math.sqrt(math.pi) - t * _ratio(t, _FAR))
    complement = xp.where(a <= 4.0, xp.exp(-(middle * middle)) * _ratio(middle, _MIDDLE), tail)
    y = xp.where(a <= 0.46875, near * _ratio(near * near, _NEAR), xp.sign(x) * (1 - complement))
    return xp.where(xp.isnan(x), x, y)


class Cast(Op):
    """The same numbers in another dtype;   gx = gy in the dtype of x"""

    __slots__ = ("dtype", "_from")
    widens = True

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)

    def forward(self, x):
        self._from = x.dtype
        return cast(x, self.dtype) if isinstance(x, Traced) else astype(x, self.dtype)

    def backward(self, saved, needs, gy):
        return (cast(gy, self._from),)


class CastToInteger(Cast):
    """A cast to a dtype that has no derivative."""

    __slots__ = ()
    differentiable = False


class Clone(Op):
    """y = a copy of x;   gx = gy"""

    def forward(self, x):
        return clone(x) if isinstance(x, Traced) else copied(x)

    def backward(self, saved, needs, gy):
        return (gy,)


class Move(Op):
    """x on another device;   gx = gy moved back"""

    __slots__ = ("device", "back")

    def __init__(self, device, back):
        self.device, self.back = device, back

    def forward(self, x):
        return transfer(x, self.device)

    def backward(self, saved, needs, gy):
        return (move(gy, self.device, self.back),)


_NEGATIVE, _EXP, _EXPM1, _LOG, _LOG1P, _SQRT, _RSQRT = Negative(), Exp(), Expm1(), Log(), Log1p(), Sqrt(), Rsqrt()
_SQUARE, _TANH, _ABS, _SIGN, _ERF, _CLONE = Square(), Tanh(), Abs(), Sign(), Erf(), Clone()
_SIN, _COS, _ISNAN, _ISFINITE, _ISINF, _RECIPROCAL = Sin(), Cos(), IsNan(), IsFinite(), IsInf(), Reciprocal()


def negative(x: Any) -> Any:
    """−x."""
    return apply(_NEGATIVE, x)


def exp(x: Any) -> Any:
    """eˣ."""
    return apply(_EXP, x)


def expm1(x: Any) -> Any:
    """eˣ − 1, accurate near 0."""
    return apply(_EXPM1, x)


def log(x: Any) -> Any:
    """Natural logarithm."""
    return apply(_LOG, x)


def log1p(x: Any) -> Any:
    """ln(1 + x), accurate near 0."""
    return apply(_LOG1P, x)


def sqrt(x: Any) -> Any:
    """Square root."""
    return apply(_SQRT, x)


def rsqrt(x: Any) -> Any:
    """1/√x."""
    return apply(_RSQRT, x)


def reciprocal(x: Any) -> Any:
    """1/x, of integers too (NumPy's rounds those towards 0)."""
    return apply(_RECIPROCAL, x)


def square(x: Any) -> Any:
    """x²."""
    return apply(_SQUARE, x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return apply(_TANH, x)


def sin(x: Any) -> Any:
    """Sine of an angle in radians."""
    return apply(_SIN, x)


def cos(x: Any) -> Any:
    """Cosine of an angle in radians."""
    return apply(_COS, x)


def abs(x: Any) -> Any:
    """|x|; its derivative at 0 is 0."""
    return apply(_ABS, x)


def sign(x: Any) -> Any:
    """−1, 0 or 1. Never recorded: the derivative is 0 wherever there is one."""
    return apply(_SIGN, x)


def isnan(x: Any) -> Any:
    """Whether each element is NaN (bool)."""
    return apply(_ISNAN, x)


def isfinite(x: Any) -> Any:
    """Whether each element is neither NaN nor infinite (bool)."""
    return apply(_ISFINITE, x)


def isinf(x: Any) -> Any:
    """Whether each element is infinite (bool)."""
    return apply(_ISINF, x)


def erf(x: Any) -> Any:
    """The error function, to 2 units in the last place (Cody 1969)."""
    return apply(_ERF, x)


def cast(x: Any, dtype: Any) -> Any:
    """`x` in another dtype; itself if it has that already. Casting to integers or bool ends differentiation.

    Raises
    ------
    DtypeError
        The dtype is neither bool, nor integers, nor floating point.
    """
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    if not is_number(dtype):
        raise DtypeError("cast", got=f"dtype {dtype}", wanted="bool, integers or floating point")
    return apply((CastToInteger if dtype.kind in "biu" else Cast)(dtype), x)


def widened(x: Any) -> Any:
    """`x` in the dtype in which its sums are taken: half types in float32, where squares and powers do not overflow."""
    return cast(x, accumulation_dtype(x.dtype))


def narrowed(y: Any, dtype: Any) -> Any:
    """`y` in the half type it was `widened` from; other dtypes never were, and a cast back to integers truncates."""
    return y if accumulation_dtype(dtype) == dtype else cast(y, dtype)


def clone(x: Any) -> Any:
    """A copy in memory of its own, still connected to the graph."""
    return apply(_CLONE, x)


def move(x: Any, here: Any, there: Any) -> Any:
    """`x`, which lives on the device `here`, on the device `there`."""
    return x if here == there else apply(Move(there, here), x)


def stop_gradient(x: Any) -> Any:
    """`x` as a constant: Tensors are detached, anything else is returned unchanged."""
    return x.detach() if isinstance(x, Traced) else x
