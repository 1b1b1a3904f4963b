"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Any

from minigrad.backend import Array
from minigrad.errors import ArgumentError
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.options import Options, at_least_zero, finite
from minigrad.optim.slots import zeros_like

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, the arithmetic of `torch.optim.SGD`.

    With the gradient g of parameter p, learning rate η, weight decay λ, momentum μ and dampening τ::

        g ← −g                       if maximize
        g ← g + λ·p
        b ← g at the first update, then μ·b + (1−τ)·g
        g ← g + μ·b if nesterov, else b
        p ← p − η·g

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor) or of dict
        What to optimize; see `Optimizer`.
    lr : float
        η ≥ 0.
    momentum : float
        μ ≥ 0; without momentum nothing is remembered.
    dampening : float
        τ, what of the gradient is kept out of b.
    weight_decay : float
        λ ≥ 0, the L2 penalty.
    nesterov : bool
        Look one step of momentum ahead; needs momentum, and no dampening.
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ArgumentError, DtypeError, GraphError
        An option or parameter is refused; see `Optimizer`.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013. As in PyTorch, and unlike there, η multiplies the buffer and is not part of it.

    Examples
    --------
    >>> from minigrad import Parameter
    >>> w = Parameter([4.0])
    >>> optimizer = SGD([w], lr=0.25, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad()
    ...     (w * w).sum().backward()
    ...     optimizer.step()
    >>> w
    Parameter([0.], float32)
    """

    scratches = 2
    arrays = ("momentum_buffer",)

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "dampening": dampening,
                                  "weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize})

    def checked(self, options: Options) -> Options:
        where = type(self).__name__
        numbers = {name: at_least_zero(where, name, options[name]) for name in ("lr", "momentum", "weight_decay")}
        flags = {name: bool(options[name]) for name in ("nesterov", "maximize")}
        momentum, dampening = numbers["momentum"], finite(where, "dampening", options["dampening"])
        if flags["nesterov"] and (momentum == 0 or dampening != 0):
            raise ArgumentError(where, got=f"nesterov with momentum={momentum}, dampening={dampening}",
                                wanted="momentum > 0 and dampening = 0")
        return {**numbers, **flags, "dampening": dampening}

    def initial_state(self, array: Array, options: Options) -> dict[str, Any]:
        return {"momentum_buffer": zeros_like(array)} if options["momentum"] else {}

    def numbers(self, options: Options, step: int, first: bool) -> tuple[float, ...]:
        """η, μ, λ, and the weight of g in the buffer; the buffer starts as 0, so that weight 1 makes it g at first."""
        kept = 1.0 if first else 1.0 - options["dampening"]
        return options["lr"], options["momentum"], options["weight_decay"], kept

    def update(self, xp: Any, p: Array, g: Array, state: dict[str, Any], scratch: tuple[Array, ...],
               options: Options, numbers: tuple[Any, ...]) -> None:
        """The formula of the class; the last argument of every function is where its result goes."""
        lr, momentum, decay, kept = numbers
        s, t = scratch
        if options["maximize"]:
            g = xp.negative(g, s)
        if options["weight_decay"]:
            g = xp.add(g, xp.multiply(p, decay, t), s)
        if options["momentum"]:
            b = state["momentum_buffer"]
            xp.multiply(b, momentum, b)
            xp.add(b, xp.multiply(g, kept, t) if options["dampening"] else g, b)
            g = xp.add(g, xp.multiply(b, momentum, t), s) if options["nesterov"] else b
        xp.subtract(p, xp.multiply(g, lr, t), p)

    def loop(self, options: Options) -> tuple[Any, ...]:
        flags = ("weight_decay", "momentum", "dampening", "nesterov", "maximize")
        return "sgd", *(bool(options[name]) for name in flags)
