"""Whole numbers next to an element, and replacements for elements that are not finite."""

from __future__ import annotations

from typing import Any

from minigrad.backend import astype, is_floating, namespace
from minigrad.op import Op, apply, inputs

__all__ = ["ceil", "floor", "nan_to_num", "round"]


class Floor(Op):
    """y = ⌊x⌋; its derivative is 0 wherever it has one, so it is never recorded."""

    differentiable = False

    def forward(self, x):
        return namespace(x).floor(x)


class Ceil(Op):
    """y = ⌈x⌉; never recorded, like `Floor`."""

    differentiable = False

    def forward(self, x):
        return namespace(x).ceil(x)


class Round(Op):
    """y = x to a number of decimals, halves to the even neighbour; never recorded, like `Floor`."""

    __slots__ = ("decimals",)
    differentiable = False

    def __init__(self, decimals):
        self.decimals = decimals

    def forward(self, x):
        xp, d = namespace(x), self.decimals
        if d == 0 or (d > 0 and not is_floating(x.dtype)):
            return xp.round(x)
        scale = 10.0 ** abs(d)
        return astype(xp.round(x * scale) / scale if d > 0 else xp.round(x / scale) * scale, x.dtype)


class NanToNum(Op):
    """y = x where finite, else the replacement for NaN, ∞ or −∞;   gx = gy where x is finite"""

    __slots__ = ("nan", "posinf", "neginf")
    keeps = inputs(0)

    def __init__(self, nan, posinf, neginf):
        self.nan, self.posinf, self.neginf = nan, posinf, neginf

    def forward(self, x):
        return namespace(x).nan_to_num(x, nan=self.nan, posinf=self.posinf, neginf=self.neginf)

    def backward(self, saved, needs, gy):
        xp = namespace(gy)
        return (xp.where(xp.isfinite(saved[0]), gy, 0.0),)


_FLOOR, _CEIL = Floor(), Ceil()


def floor(x: Any) -> Any:
    """The largest whole number that is not above x. Never recorded: the derivative is 0 wherever there is one."""
    return apply(_FLOOR, x)


def ceil(x: Any) -> Any:
    """The smallest whole number that is not below x. Never recorded, like `floor`."""
    return apply(_CEIL, x)


def round(x: Any, decimals: int = 0) -> Any:
    """x to so many decimals, halves to the even neighbour. Never recorded, like `floor`."""
    return apply(Round(decimals), x)


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """`x` with NaN and infinities replaced.

    Parameters
    ----------
    nan : float
    posinf, neginf : float, optional
        The largest and smallest finite number of the dtype unless given.
    """
    return apply(NanToNum(nan, posinf, neginf), x)
