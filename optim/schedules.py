"""Learning rates that change from step to step, under the names and with the arithmetic of `torch.optim.lr_scheduler`.

A schedule sets ``group["lr"]`` of every group of its optimizer when it is made, and again at every `step`. Most
multiply the rate by a factor, as torch's do, so that several may act on one optimizer.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigrad.errors import ArgumentError, DtypeError, StateError, not_while_recording
from minigrad.optim.optimizer import Optimizer

__all__ = ["CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "SequentialLR",
           "StepLR"]


class LRScheduler:
    """Base of schedules: counts steps, and sets what `get_lr` says.

    Parameters
    ----------
    optimizer : Optimizer
    last_epoch : int
        The number of steps taken already; −1 to begin. To go on from a checkpoint, make the schedule with −1 and call
        `load_state_dict`.

    Attributes
    ----------
    base_lrs : list of float
        The rates of the groups before any schedule changed them; they are kept as ``group["initial_lr"]``.
    last_epoch : int

    Raises
    ------
    DtypeError
        There is no optimizer.
    StateError
        ``last_epoch`` is not −1 and a group has no ``"initial_lr"``.

    Examples
    --------
    >>> from minigrad import Parameter
    >>> from minigrad.optim import SGD, StepLR
    >>> optimizer = SGD([Parameter([1.0])], lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
    >>> rates = []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()    # after optimizer.step()
    >>> rates
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise DtypeError(name, got=f"a {type(optimizer).__name__}", wanted="an Optimizer")
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise StateError(name, got=f"last_epoch={last_epoch} and no 'initial_lr' in group {i}",
                                 wanted="-1, or an optimizer that had a schedule")
        self.optimizer = optimizer
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.start()

    def start(self) -> None:
        """Take the step that sets the first rate."""
        self._steps = 0
        self._starting = True
        self.step()
        self._starting = False

    def get_lr(self) -> list[float]:
        """The rate of every group after `last_epoch` steps; what a subclass gives."""
        raise NotImplementedError(f"{type(self).__name__} has no method get_lr()")

    def closed_form(self) -> list[float]:
        """The same from `base_lrs` alone, where there is a formula; `SequentialLR` begins a schedule with it."""
        return self.get_lr()

    def step(self) -> None:
        """Go on by one, after `optimizer.step()`."""
        not_while_recording(f"{type(self).__name__}.step", "Call it between replays: they take the rate as it is then")
        self._steps += 1
        self.last_epoch += 1
        self._set(self.get_lr())

    def restart(self) -> None:
        """Begin anew from the initial rates."""
        self.last_epoch = 0
        self._set(self.closed_form())

    def _set(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = list(rates)

    def _rates(self) -> list[float]:
        """The rates that are set now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float]:
        """The rate of every group that was set last."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """What there is to remember: numbers, names and lists of them."""
        return {name: value for name, value in self.__dict__.items() if name != "optimizer" and not callable(value)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the optimizer's rates are its own state."""
        self.__dict__.update(state_dict)


def _above_zero(where: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(where, got=f"{name}={value!r}", wanted="a whole number above 0")
    return value


class LambdaLR(LRScheduler):
    """rate = initial rate · f(step).

    Parameters
    ----------
    optimizer : Optimizer
    lr_lambda : callable, or a list of one for each group
        Given the number of steps, the factor.
    last_epoch : int
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
                 last_epoch: int = -1) -> None:
        count = len(optimizer.param_groups)
        self._factors = (list(lr_lambda) if isinstance(lr_lambda, (list, tuple)) else [lr_lambda] * count)
        if len(self._factors) != count:
            raise ArgumentError("LambdaLR", got=f"{len(self._factors)} functions for {count} groups", wanted="one each")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """Initial rate · f(step)."""
        return [base * factor(self.last_epoch) for base, factor in zip(self.base_lrs, self._factors)]

    def state_dict(self) -> dict[str, Any]:
        """What there is to remember, without the functions."""
        return {name: value for name, value in super().state_dict().items() if name != "_factors"}


class StepLR(LRScheduler):
    """The rate times `gamma` after every `step_size` steps.

    Parameters
    ----------
    optimizer : Optimizer
    step_size : int
    gamma : float
    last_epoch : int
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = _above_zero("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rate, times gamma if it is time."""
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._rates()
        return [rate * self.gamma for rate in self._rates()]

    def closed_form(self) -> list[float]:
        """Initial rate · gamma^⌊step / step_size⌋."""
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """The rate times `gamma` at each milestone; one that is named twice counts twice.

    Parameters
    ----------
    optimizer : Optimizer
    milestones : iterable of int
        Numbers of steps.
    gamma : float
    last_epoch : int
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1,
                 last_epoch: int = -1) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rate, times gamma for each milestone that is here."""
        here = self.milestones.count(self.last_epoch)
        return [rate * self.gamma**here for rate in self._rates()] if here else self._rates()

    def closed_form(self) -> list[float]:
        """Initial rate · gamma^(milestones so far)."""
        return [base * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """The rate times `gamma` at every step.

    Parameters
    ----------
    optimizer : Optimizer
    gamma : float
    last_epoch : int
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rate, times gamma but at first."""
        return self._rates() if self._starting else [rate * self.gamma for rate in self._rates()]

    def closed_form(self) -> list[float]:
        """Initial rate · gamma^step."""
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class LinearLR(LRScheduler):
    """A factor that goes evenly from `start_factor` to `end_factor` within `total_iters` steps: the usual warm-up.

    Parameters
    ----------
    optimizer : Optimizer
    start_factor : float
        Above 0, at most 1.
    end_factor : float
        From 0 to 1.
    total_iters : int
    last_epoch : int

    Raises
    ------
    ArgumentError
        A factor is out of range.
    """

    def __init__(self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
                 total_iters: int = 5, last_epoch: int = -1) -> None:
        if not 0 < start_factor <= 1 or not 0 <= end_factor <= 1:
            raise ArgumentError("LinearLR", got=f"start_factor={start_factor}, end_factor={end_factor}",
                                wanted="from 0 to 1, the first above 0")
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rate times the quotient of this step's factor and the last one's."""
        if self.last_epoch == 0:
            return [rate * self.start_factor for rate in self._rates()]
        if self._starting or self.last_epoch > self.total_iters:
            return self._rates()
        way = self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (self.last_epoch - 1) * way
        return [rate * (1.0 + way / before) for rate in self._rates()]

    def closed_form(self) -> list[float]:
        """Initial rate · factor."""
        way = (self.end_factor - self.start_factor) * min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * (self.start_factor + way) for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """rate = eta_min + (initial − eta_min)·(1 + cos(π·step / T_max)) / 2   (Loshchilov & Hutter, arXiv:1608.03983).

    Parameters
    ----------
    optimizer : Optimizer
    T_max : int
        The number of steps down to `eta_min`; the rate rises again afterwards.
    eta_min : float
    last_epoch : int
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = _above_zero("CosineAnnealingLR", "T_max", T_max), eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The present rate times the quotient of this step's value and the last one's, above eta_min."""
        if self._starting:
            return self._rates()
        if self._steps == 1 and self.last_epoch > 0:
            return self.closed_form()
        if (self.last_epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # the last value was eta_min: no quotient
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [rate + (base - self.eta_min) * rise for base, rate in zip(self.base_lrs, self._rates())]
        now, before = (1 + math.cos(math.pi * step / self.T_max) for step in (self.last_epoch, self.last_epoch - 1))
        return [now / before * (rate - self.eta_min) + self.eta_min for rate in self._rates()]

    def closed_form(self) -> list[float]:
        """The formula itself."""
        share = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class SequentialLR(LRScheduler):
    """One schedule after another, such as a warm-up and then a cosine; each begins anew at its milestone.

    Parameters
    ----------
    optimizer : Optimizer
    schedulers : list of LRScheduler
        All of this optimizer.
    milestones : list of int
        The steps at which the second, third, … take over.

    Raises
    ------
    ArgumentError
        Not one milestone fewer than schedules, or a schedule of another optimizer.
    """

    def __init__(self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int],
                 last_epoch: int = -1) -> None:
        if not schedulers or len(milestones) != len(schedulers) - 1:
            raise ArgumentError("SequentialLR", got=f"{len(schedulers)} schedules, {len(milestones)} milestones",
                                wanted="one milestone fewer than schedules")
        if any(not isinstance(s, LRScheduler) or s.optimizer is not optimizer for s in schedulers):
            raise ArgumentError("SequentialLR", got="a schedule of another optimizer, or none that counts steps",
                                wanted="schedules of this optimizer")
        self.optimizer, self.last_epoch = optimizer, last_epoch + 1
        self._schedulers, self._milestones = list(schedulers), list(milestones)
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group, base in zip(optimizer.param_groups, self.base_lrs):
            group["lr"] = base
        self.undo()  # what the schedules did when they were made
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first.start()
        self._last_lr = first.get_last_lr()

    def undo(self) -> None:
        """Take back the first step of all schedules."""
        for schedule in self._schedulers:
            if isinstance(schedule, SequentialLR):
                schedule.undo()
            else:
                schedule.last_epoch -= 1

    def start(self) -> None:
        """Let the first schedule begin."""
        self._schedulers[0].start()
        self._last_lr = self._schedulers[0].get_last_lr()

    def step(self) -> None:
        """Go on by one: the schedule whose turn it is."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        schedule = self._schedulers[turn]
        if turn > 0 and self._milestones[turn - 1] == self.last_epoch:
            schedule.restart()
        else:
            schedule.step()
        self._last_lr = schedule.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """What there is to remember, of the parts too."""
        own = {name: value for name, value in super().state_dict().items() if name != "_schedulers"}
        return {**own, "_schedulers": [schedule.state_dict() for schedule in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        parts = state_dict["_schedulers"]
        if len(parts) != len(self._schedulers):
            raise StateError("SequentialLR", got=f"the state of {len(parts)} schedules",
                             wanted=f"{len(self._schedulers)}")
        self.__dict__.update({name: value for name, value in state_dict.items() if name != "_schedulers"})
        for schedule, part in zip(self._schedulers, parts):
            schedule.load_state_dict(part)
