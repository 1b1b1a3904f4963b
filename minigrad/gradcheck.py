"""Analytic against numeric derivatives, to any order.

Order n is checked by recursion on the gradient: with random u₁, u₂, … and v,

    g₁ = ∂/∂x (⟨u₁, f⟩ + ½⟨v, f²⟩)    gₙ = ∂/∂x ⟨uₙ, gₙ₋₁⟩

and gₙ is compared with differences of what it is the gradient of, whose inner gₙ₋₁ the order before has checked. So
only one numeric derivative is ever taken, and order 4 is as sharp as order 1. The weights are random because a plain
sum hides errors: the outputs of BatchNorm add up to the same number whatever its input is. The square makes the
gradient that f receives, u₁ + v·f, depend on x: else the way of derivatives through that gradient would go unchecked.

The differences are central and of fourth order (Fornberg, Math. Comp. 51, 1988, table 1),

    s′(x) = (8·(s(x + h) − s(x − h)) − (s(x + 2h) − s(x − 2h))) / 12h + O(h⁴)

in float64, where at h = 10⁻³ rounding leaves about 10⁻¹², a millionth of what differences of second order leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.backend import is_array
from minigrad.engine import grad
from minigrad.errors import ArgumentError, GraphError, MinigradError
from minigrad.modes import enable_grad, no_grad
from minigrad.tensor import Tensor

__all__ = ["GradientError", "check_gradients"]

Function = Callable[..., Any]


class GradientError(MinigradError, AssertionError):
    """An analytic derivative differs from the numeric one."""


@enable_grad()
def check_gradients(function: Function, inputs: Any, order: int = 1, eps: float = 1e-3, rtol: float = 1e-6,
                    atol: float = 1e-9, elements: int | None = None, seed: int = 0) -> tuple[float, ...]:
    """Compare the derivatives of a function with numeric ones, in float64.

    Parameters
    ----------
    function : callable
        Takes Tensors, returns a Tensor or a tuple of them. It must give the same values at every call, and be smooth
        within 2·`eps` of the inputs: kinks (of relu, of max) must be farther away.
    inputs : Tensor, array, or sequence of them
        Floating-point ones are differentiated, at copies in float64; others (integers, bool, None, numbers) are passed
        on as they are. Outputs that are not floating point are left out.
    order : int
        The highest order to check; all from 1 on are.
    eps : float
        The step h of the differences, times the largest of 1 and |x|.
    rtol : float
        The largest allowed difference, as a part of the largest reference value of the same input.
    atol : float
        Differences up to this are allowed in any case.
    elements : int, optional
        Check only so many elements of each input, randomly chosen.
    seed : int
        Of the random cotangents and elements.

    Returns
    -------
    tuple of float
        For each order the largest relative difference: over the inputs, the largest of max |difference| ÷ max
        |reference|, where a reference below atol / rtol counts as that much.

    Raises
    ------
    GradientError
        A derivative is wrong; the message names order, input, place and both values. Also if the gradients of several
        outputs do not add up to their gradient together, an output's gradient being absent.
    ShapeError
        A derivative does not have its input's shape.
    GraphError
        No output depends on a floating-point input.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import ops
    >>> from minigrad.gradcheck import check_gradients
    >>> x = np.random.default_rng(0).normal(size=(6, 2))
    >>> errors = check_gradients(lambda x: ops.batch_norm(x)[0], x, order=4)
    >>> len(errors), max(errors) < 1e-6
    (4, True)
    """
    if order < 1:
        raise ArgumentError("check_gradients", got=f"order={order}", wanted="1 or more")
    rng = np.random.default_rng(seed)
    arguments = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    copies = {i: x for i, a in enumerate(arguments) if (x := _array(a)) is not None}
    places = list(copies)
    check = _Check(list(copies.values()), places, eps, rtol, atol, elements, rng)
    level = _first_level(function, arguments, places)
    errors = []
    for n in range(1, order + 1):
        gradient = _Gradient(level, check.xs, rng)
        if n == 1 and not gradient.live:
            raise GraphError("check_gradients", got="outputs that depend on no floating-point input",
                             wanted="at least one that does")
        check.outputs_apart(gradient, n)
        errors.append(check.order(gradient, n))
        level = gradient
    return tuple(errors)


def _array(argument: Any) -> np.ndarray | None:
    """A float64 copy of an argument to differentiate with respect to; None for any other."""
    data = argument.data if isinstance(argument, Tensor) else argument
    if not is_array(data) or data.dtype.kind != "f":
        return None
    return np.array(data, np.float64)


def _first_level(function: Function, arguments: tuple[Any, ...], places: list[int]) -> Function:
    """`function` of its differentiable arguments alone, giving the tuple of its floating-point outputs."""
    fixed = [Tensor(a) if is_array(a) else a for a in arguments]

    def level(*xs: Tensor) -> tuple[Tensor, ...]:
        full = list(fixed)
        for i, x in zip(places, xs):
            full[i] = x
        ys = function(*full)
        ys = tuple(ys) if isinstance(ys, (tuple, list)) else (ys,)
        return tuple(y for y in ys if y.dtype.kind == "f")

    return level


class _Gradient:
    """gₙ as a function of the inputs: the gradients of ⟨uₙ, gₙ₋₁⟩ (+ ½⟨v, f²⟩ for g₁), with uₙ and v drawn once.

    live : whether gₙ₋₁ depends on the inputs at all; the gradient is 0 if it does not
    """

    def __init__(self, level: Function, xs: list[np.ndarray], rng: np.random.Generator) -> None:
        self.level = level
        outputs = level(*_leaves(xs))
        self.cotangents = [rng.standard_normal(y.shape) for y in outputs]
        bent = not isinstance(level, _Gradient)
        self.bends = [rng.standard_normal(y.shape) if bent else None for y in outputs]
        self.live = any(y.requires_grad for y in outputs)

    def __call__(self, *xs: Tensor, only: int | None = None) -> tuple[Tensor, ...]:
        """The gradients as Tensors with history; with `only`, of a single output."""
        outputs = self.level(*xs)
        used = [(y, Tensor(u) if v is None else y * v + u)
                for i, (y, u, v) in enumerate(zip(outputs, self.cotangents, self.bends))
                if y.requires_grad and only in (None, i)]
        if not used:
            return tuple(x.zeros_like() for x in xs)
        ys, us = zip(*used)
        found = grad(ys, xs, us, create_graph=True, allow_unused=True)
        return tuple(x.zeros_like() if g is None else g for x, g in zip(xs, found))

    def scalar(self, xs: list[np.ndarray]) -> float:
        """What gₙ is the gradient of, at some place."""
        if isinstance(self.level, _Gradient):
            outputs = self.level(*_leaves(xs))
        else:
            with no_grad():
                outputs = self.level(*[Tensor(x) for x in xs])
        return float(sum(np.sum((u if v is None else u + 0.5 * v * y.numpy()) * y.numpy())
                         for y, u, v in zip(outputs, self.cotangents, self.bends)))


def _leaves(xs: list[np.ndarray]) -> list[Tensor]:
    return [Tensor(x, requires_grad=True) for x in xs]


class _Check:
    """One run of `check_gradients`: the place, the tolerances, and which argument each differentiated input was."""

    def __init__(self, xs: list[np.ndarray], places: list[int], eps: float, rtol: float, atol: float,
                 elements: int | None, rng: np.random.Generator) -> None:
        self.xs, self.places, self.eps, self.rtol, self.atol = xs, places, eps, rtol, atol
        self.chosen = [np.arange(x.size) if elements is None or elements >= x.size
                       else rng.choice(x.size, elements, replace=False) for x in xs]

    def order(self, gradient: _Gradient, n: int) -> float:
        """The largest relative difference of order n."""
        found = [g.numpy() for g in gradient(*_leaves(self.xs))]
        worst = 0.0
        for k, g in enumerate(found):
            numeric = np.array([self.difference(gradient, k, e) for e in self.chosen[k]])
            worst = max(worst, self.compare(g.reshape(-1)[self.chosen[k]], numeric, k, f"order {n}", "numeric"))
        return worst

    def difference(self, gradient: _Gradient, k: int, element: int) -> float:
        """The numeric counterpart of one element of gₙ, in input k."""
        moved = [x.copy() for x in self.xs]
        flat = moved[k].reshape(-1)
        x = float(flat[element])
        h = self.eps * max(1.0, abs(x))

        def at(place: float) -> float:
            flat[element] = place
            return gradient.scalar(moved)

        return (8 * (at(x + h) - at(x - h)) - (at(x + 2 * h) - at(x - 2 * h))) / (12 * h)

    def outputs_apart(self, gradient: _Gradient, n: int) -> None:
        """The gradient is linear in the cotangents, so outputs taken one at a time must add up to all of them.

        One at a time, the gradients of the others are absent, which an operation has to cope with.
        """
        count = len(gradient.cotangents)
        if count < 2:
            return
        together = [g.numpy() for g in gradient(*_leaves(self.xs))]
        apart = [[g.numpy() for g in gradient(*_leaves(self.xs), only=i)] for i in range(count)]
        for k, g in enumerate(together):
            parts = np.sum([part[k] for part in apart], axis=0)
            self.compare(parts.reshape(-1), g.reshape(-1), k, f"order {n}, outputs one at a time",
                         "all outputs together", range(g.size))

    def compare(self, found: np.ndarray, reference: np.ndarray, k: int, what: str, source: str,
                chosen: Any = None) -> float:
        """max |difference| ÷ max |reference|, refused above the tolerance."""
        if found.size == 0:
            return 0.0
        scale = max(float(np.abs(reference).max()), self.atol / self.rtol)
        difference = np.abs(found - reference)
        worst = int(np.argmax(np.where(np.isnan(difference), np.inf, difference)))
        relative = float(difference[worst]) / scale
        if not relative <= self.rtol:
            element = (self.chosen[k] if chosen is None else chosen)[worst]
            place = tuple(int(i) for i in np.unravel_index(element, self.xs[k].shape))
            raise GradientError(
                "check_gradients", got=f"{what}, input {self.places[k]}, element {place}: analytic {found[worst]:.10g}",
                wanted=f"{source} {reference[worst]:.10g}, within {self.rtol:g} of {scale:.3g}")
        return relative
