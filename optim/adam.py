"""Adam and AdamW: steps scaled by running moments of the gradient."""

from __future__ import annotations

from math import sqrt
from typing import Any, ClassVar

from minigrad.backend import Array
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.options import Options, at_least_zero, betas
from minigrad.optim.slots import zeros_like

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam, the arithmetic of `torch.optim.Adam`.

    With the gradient g of parameter p at its t-th update, learning rate η, decay rates β₁ and β₂, weight decay λ::

        g ← −g                       if maximize
        g ← g + λ·p
        m ← β₁·m + (1−β₁)·g          v ← β₂·v + (1−β₂)·g²
        v̂ ← v, or with amsgrad the largest v so far
        p ← p − η · m/(1−β₁ᵗ) / (√(v̂/(1−β₂ᵗ)) + ε)

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor) or of dict
        What to optimize; see `Optimizer`.
    lr : float
        η ≥ 0.
    betas : (float, float)
        β₁ and β₂, in [0, 1).
    eps : float
        ε ≥ 0, against division by 0.
    weight_decay : float
        λ ≥ 0, as an L2 penalty: it goes through the moments. For decay that does not, see `AdamW`.
    amsgrad : bool
        Divide by the largest second moment so far.
    maximize : bool
        Climb instead of descending.

    Raises
    ------
    ArgumentError, DtypeError, GraphError
        An option or parameter is refused; see `Optimizer`.

    References
    ----------
    D. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1. amsgrad: S. Reddi,
    S. Kale, S. Kumar, "On the convergence of Adam and beyond", ICLR 2018; as in PyTorch the maximum is taken before
    the correction.

    Examples
    --------
    The first step goes η far, against the sign of the gradient, whatever its size:

    >>> from minigrad import Parameter
    >>> w = Parameter([1.0, -1.0])
    >>> optimizer = Adam([w], lr=0.125)
    >>> (w * w * 1000.0).sum().backward()
    >>> optimizer.step()
    >>> w
    Parameter([ 0.875, -0.875], float32)
    """

    scratches = 2
    arrays = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    decoupled: ClassVar[bool] = False

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
                                  "amsgrad": amsgrad, "maximize": maximize})

    def checked(self, options: Options) -> Options:
        where = type(self).__name__
        numbers = {name: at_least_zero(where, name, options[name]) for name in ("lr", "eps", "weight_decay")}
        flags = {name: bool(options[name]) for name in ("amsgrad", "maximize")}
        return {**numbers, **flags, "betas": betas(where, options["betas"])}

    def initial_state(self, array: Array, options: Options) -> dict[str, Any]:
        state = {"step": 0, "exp_avg": zeros_like(array), "exp_avg_sq": zeros_like(array)}
        if options["amsgrad"]:
            state["max_exp_avg_sq"] = zeros_like(array)
        return state

    def numbers(self, options: Options, step: int, first: bool) -> tuple[float, ...]:
        """1−β₁, β₂, 1−β₂, λ, and for p ← ω·p − size·m/(√v̂ + small) the three numbers left.

        With c₁ = 1−β₁ᵗ and c₂ = 1−β₂ᵗ the fraction is widened by √c₂: size = η·√c₂/c₁, small = ε·√c₂, so that no
        array has to be divided by a correction. ω is 1 − η·λ.
        """
        (beta1, beta2), lr, decay = options["betas"], options["lr"], options["weight_decay"]
        root = sqrt(1.0 - beta2**step)
        size = lr * root / (1.0 - beta1**step)
        return 1.0 - beta1, beta2, 1.0 - beta2, decay, size, options["eps"] * root, 1.0 - lr * decay

    def update(self, xp: Any, p: Array, g: Array, state: dict[str, Any], scratch: tuple[Array, ...],
               options: Options, numbers: tuple[Any, ...]) -> None:
        """The formula of the class; the last argument of every function is where its result goes."""
        new1, beta2, new2, decay, size, small, shrink = numbers
        m, v = state["exp_avg"], state["exp_avg_sq"]
        s, t = scratch
        if options["maximize"]:
            g = xp.negative(g, s)
        if options["weight_decay"] and not self.decoupled:
            g = xp.add(g, xp.multiply(p, decay, t), s)
        xp.add(m, xp.multiply(xp.subtract(g, m, t), new1, t), m)
        xp.multiply(v, beta2, v)
        xp.add(v, xp.multiply(xp.multiply(g, g, t), new2, t), v)
        if options["amsgrad"]:
            v = xp.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
        xp.add(xp.sqrt(v, t), small, t)
        xp.multiply(xp.divide(m, t, t), size, t)
        if options["weight_decay"] and self.decoupled:
            xp.multiply(p, shrink, p)
        xp.subtract(p, t, p)

    def loop(self, options: Options) -> tuple[Any, ...]:
        return "adam", bool(options["weight_decay"]), self.decoupled, options["amsgrad"], options["maximize"]


class AdamW(Adam):
    """Adam with decoupled weight decay, the arithmetic of `torch.optim.AdamW`.

    As `Adam`, but λ·p does not enter the gradient; instead, before the step::

        p ← p − η·λ·p

    Parameters
    ----------
    params : iterable of Tensor, of (str, Tensor) or of dict
        What to optimize; see `Optimizer`.
    lr, betas, eps, amsgrad, maximize
        As in `Adam`.
    weight_decay : float
        λ ≥ 0.

    Raises
    ------
    ArgumentError, DtypeError, GraphError
        An option or parameter is refused; see `Optimizer`.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Examples
    --------
    >>> from minigrad import Parameter
    >>> w = Parameter([1.0])
    >>> optimizer = AdamW([w], lr=0.125, weight_decay=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    Parameter([0.8125], float32)
    """

    decoupled = True

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
