"""Schedules that plan a whole run (one-cycle), or that watch how it goes (reduce on plateau)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigrad.errors import ArgumentError, DtypeError
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.schedules import LRScheduler

__all__ = ["OneCycleLR", "ReduceLROnPlateau"]

Each = float | Sequence[float]


def _per_group(where: str, name: str, given: Each, optimizer: Optimizer) -> list[float]:
    """One number for each group, from one for all or one each."""
    count = len(optimizer.param_groups)
    numbers = list(given) if isinstance(given, (list, tuple)) else [given] * count
    if len(numbers) != count:
        raise ArgumentError(where, got=f"{len(numbers)} {name}s for {count} groups", wanted="one, or one each")
    return numbers  # type: ignore[return-value]


class OneCycleLR(LRScheduler):
    """Up from a small rate to `max_lr`, down to a far smaller one; momentum the other way (Smith, arXiv:1708.07120).

    Parameters
    ----------
    optimizer : Optimizer
    max_lr : float, or one for each group
    total_steps : int, optional
        Or else `epochs` and `steps_per_epoch`, whose product it is.
    pct_start : float
        Which part of the steps goes up.
    anneal_strategy : "cos" or "linear"
    cycle_momentum : bool
        Whether momentum (or beta1) goes from `max_momentum` down to `base_momentum` and up again.
    base_momentum, max_momentum : float, or one for each group
    div_factor : float
        The first rate is max_lr / div_factor.
    final_div_factor : float
        The last rate is the first / final_div_factor.
    three_phase : bool
        Whether to come down to the first rate as slowly as it went up, and only then to the last.
    last_epoch : int

    Raises
    ------
    ArgumentError
        An option is out of range; when called, more steps than `total_steps`.
    """

    def __init__(self, optimizer: Optimizer, max_lr: Each, total_steps: int | None = None, epochs: int | None = None,
                 steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
                 cycle_momentum: bool = True, base_momentum: Each = 0.85, max_momentum: Each = 0.95,
                 div_factor: float = 25.0, final_div_factor: float = 1e4, three_phase: bool = False,
                 last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DtypeError("OneCycleLR", got=f"a {type(optimizer).__name__}", wanted="an Optimizer")
        self.optimizer = optimizer
        if total_steps is None and epochs is not None and steps_per_epoch is not None:
            total_steps = epochs * steps_per_epoch if min(epochs, steps_per_epoch) > 0 else 0
        if not isinstance(total_steps, int) or total_steps < 1:
            raise ArgumentError("OneCycleLR", got=f"total_steps={total_steps}, epochs={epochs}, "
                                f"steps_per_epoch={steps_per_epoch}", wanted="a total above 0, or both others")
        if not 0 <= pct_start <= 1 or anneal_strategy not in ("cos", "linear"):
            raise ArgumentError("OneCycleLR", got=f"pct_start={pct_start}, anneal_strategy={anneal_strategy!r}",
                                wanted="from 0 to 1, and 'cos' or 'linear'")
        self.total_steps, self.anneal_strategy = total_steps, anneal_strategy
        self._plan(float(pct_start), three_phase)
        tops = _per_group("OneCycleLR", "max_lr", max_lr, optimizer)
        firsts = [top / div_factor for top in tops]
        self._rates_of = {"first": firsts, "max": tops, "last": [first / final_div_factor for first in firsts]}
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._momenta(base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:
            for group, first in zip(optimizer.param_groups, firsts):
                group["initial_lr"] = first
        super().__init__(optimizer, last_epoch)

    def _plan(self, pct_start: float, three_phase: bool) -> None:
        """The phases: their last step, the rates they go from and to, the momenta likewise."""
        up = pct_start * self.total_steps - 1
        self._phases: list[tuple[float, str, str, str, str]] = [(up, "first", "max", "high", "low")]
        if three_phase:
            self._phases.append((2 * pct_start * self.total_steps - 2, "max", "first", "low", "high"))
            self._phases.append((self.total_steps - 1, "first", "last", "high", "high"))
        else:
            self._phases.append((self.total_steps - 1, "max", "last", "low", "high"))

    def _momenta(self, base: Each, high: Each, last_epoch: int) -> None:
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ArgumentError("OneCycleLR", got=f"cycle_momentum=True with {type(self.optimizer).__name__}",
                                wanted="an optimizer with momentum or betas, or False")
        self._momentum_of = {"low": _per_group("OneCycleLR", "base_momentum", base, self.optimizer),
                             "high": _per_group("OneCycleLR", "max_momentum", high, self.optimizer)}
        if last_epoch == -1:
            self._set_momenta(self._momentum_of["high"])

    def _set_momenta(self, momenta: Sequence[float]) -> None:
        for group, momentum in zip(self.optimizer.param_groups, momenta):
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)
        return (end - start) * part + start

    def get_lr(self) -> list[float]:
        """The rates of this step; momenta are set on the way."""
        step = self.last_epoch
        if step > self.total_steps:
            raise ArgumentError("OneCycleLR", got=f"step {step}", wanted=f"at most total_steps={self.total_steps}")
        phase = next((i for i, (end, *_) in enumerate(self._phases[:-1]) if step <= end), len(self._phases) - 1)
        begin = self._phases[phase - 1][0] if phase else 0.0
        end, low, high, momentum, other = self._phases[phase]
        part = (step - begin) / (end - begin)
        if self.cycle_momentum:
            self._set_momenta([self._between(a, b, part) for a, b in
                               zip(self._momentum_of[momentum], self._momentum_of[other])])
        return [self._between(a, b, part) for a, b in zip(self._rates_of[low], self._rates_of[high])]


class ReduceLROnPlateau:
    """The rate times `factor` when a figure has not become better for more than `patience` steps.

    Parameters
    ----------
    optimizer : Optimizer
    mode : "min" or "max"
        Whether smaller or larger figures are better.
    factor : float
        Below 1.
    patience : int
    threshold : float
        By how much a figure has to be better than the best to count.
    threshold_mode : "rel" or "abs"
        Whether that is a part of the best, or a difference.
    cooldown : int
        Steps after a reduction in which nothing is counted.
    min_lr : float, or one for each group
    eps : float
        Smaller reductions are not made.

    Raises
    ------
    ArgumentError
        An option is out of range or unknown.

    Examples
    --------
    >>> from minigrad import Parameter
    >>> from minigrad.optim import SGD, ReduceLROnPlateau
    >>> optimizer = SGD([Parameter([1.0])], lr=1.0)
    >>> schedule = ReduceLROnPlateau(optimizer, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> optimizer.param_groups[0]["lr"]
    0.1
    """

    def __init__(self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
                 threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: Each = 0,
                 eps: float = 1e-8) -> None:
        if not isinstance(optimizer, Optimizer):
            raise DtypeError("ReduceLROnPlateau", got=f"a {type(optimizer).__name__}", wanted="an Optimizer")
        if factor >= 1.0 or mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError("ReduceLROnPlateau", got=f"factor={factor}, mode={mode!r}, "
                                f"threshold_mode={threshold_mode!r}",
                                wanted="below 1, 'min' or 'max', 'rel' or 'abs'")
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.min_lrs = _per_group("ReduceLROnPlateau", "min_lr", min_lr, optimizer)
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = self.num_bad_epochs = self.last_epoch = 0
        self._last_lr = [group["lr"] for group in optimizer.param_groups]

    def is_better(self, figure: float) -> bool:
        """Whether a figure counts as better than the best so far."""
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            limit = self.best * (1.0 + sign * self.threshold)
        else:
            limit = self.best + sign * self.threshold
        return figure > limit if self.mode == "max" else figure < limit

    def step(self, metrics: Any) -> None:
        """Take notice of a figure, a number or a Tensor of one element."""
        figure = float(metrics)
        self.last_epoch += 1
        if self.is_better(figure):
            self.best, self.num_bad_epochs = figure, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, least in zip(self.optimizer.param_groups, self.min_lrs):
                rate = max(group["lr"] * self.factor, least)
                if group["lr"] - rate > self.eps:
                    group["lr"] = rate
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rate of every group that was set last."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """What there is to remember: numbers, names and lists of them."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the optimizer's rates are its own state."""
        self.__dict__.update(state_dict)
