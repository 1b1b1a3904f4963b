"""Loss scaling for training in float16: gradients that would vanish are made larger, and steps that overflow left out.

See `GradScaler` for how a step is written with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minigrad.errors import ArgumentError, GraphError, StateError, not_while_recording
from minigrad.layers.statistics import StatisticsLedger, withhold_statistics
from minigrad.ops.averages import all_finite_of
from minigrad.optim.optimizer import Optimizer
from minigrad.versions import wrote

__all__ = ["GradScaler"]


class GradScaler:
    """Scale losses so that float16 gradients neither vanish nor overflow; the arithmetic of `torch.amp.GradScaler`.

    Gradients below 6·10⁻⁸ are 0 in float16. The loss times a large s makes all of them larger; the optimizer gets them
    divided by s. Where that overflows, the step is left out and s falls; after `growth_interval` steps without one it
    rises again. bfloat16 has the range of float32 and needs no scaling.

    A step that is left out changes nothing: no parameter, no state of the optimizer and, if the forward pass ran inside
    `withheld`, no running statistics.

    Parameters
    ----------
    init_scale : float
        s at first, above 0. Powers of two scale without rounding.
    growth_factor, backoff_factor : float
        By what s is multiplied, above 1 and below 1.
    growth_interval : int
        Steps in a row without an overflow before s grows.
    enabled : bool
        False: s is 1, gradients stay as they are, and no step is left out.

    Attributes
    ----------
    skipped : int
        How many steps were left out.

    Raises
    ------
    ArgumentError
        A number is out of its range.

    Notes
    -----
    Whether a step is taken is decided on the host, which waits for the device. So it cannot be part of a step that
    `minigrad.cuda.replay` has recorded: use bfloat16 there.

    References
    ----------
    P. Micikevicius et al., "Mixed precision training", arXiv:1710.03740, section 3.2.

    Examples
    --------
    A step of a model::

        with minigrad.autocast("float16"), scaler.withheld(model):
            loss = F.cross_entropy(model(x), t)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)          # unscales; leaves the step out if a gradient is not finite
        scaler.update()

    >>> from minigrad import Parameter
    >>> from minigrad.optim import SGD, GradScaler
    >>> w = Parameter([1.0])
    >>> optimizer, scaler = SGD([w], lr=0.25), GradScaler(init_scale=1024.0)
    >>> scaler.scale((w * w).sum()).backward()
    >>> w.grad.tolist()
    [2048.0]
    >>> scaler.step(optimizer)
    True
    >>> scaler.update()
    >>> w.tolist()
    [0.5]
    """

    def __init__(self, init_scale: float = 65536.0, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True) -> None:
        where = "GradScaler"
        if not 0 < init_scale < math.inf:
            raise ArgumentError(where, got=f"init_scale={init_scale}", wanted="a finite number above 0")
        if not 1 < growth_factor < math.inf:
            raise ArgumentError(where, got=f"growth_factor={growth_factor}", wanted="a finite number above 1")
        if not 0 < backoff_factor < 1:
            raise ArgumentError(where, got=f"backoff_factor={backoff_factor}", wanted="a number between 0 and 1")
        if not growth_interval >= 1:
            raise ArgumentError(where, got=f"growth_interval={growth_interval}", wanted="at least 1")
        self.enabled, self.skipped = bool(enabled), 0
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval = int(growth_interval)
        self._scale, self._good = float(init_scale), 0
        self._finite: dict[Optimizer, bool] = {}  # of the optimizers unscaled since the last update
        self._stepped: set[Optimizer] = set()
        self._held: list[StatisticsLedger] = []

    def get_scale(self) -> float:
        """s, by which losses are multiplied; 1 if the scaler is not enabled."""
        return self._scale if self.enabled else 1.0

    def scale(self, loss: Any) -> Any:
        """The loss times s, to call `backward` on."""
        return loss * self._scale if self.enabled else loss

    @contextmanager
    def withheld(self, model: Any = None) -> Iterator[StatisticsLedger]:
        """Inside the block, running statistics are held back: `update` commits them if the steps were taken.

        Several blocks before an `update` are the parts of one step; each part's statistics are committed in turn.

        Parameters
        ----------
        model : Module, optional
            Concern only the layers of this model; else all.
        """
        with withhold_statistics(model) as held:
            yield held
        self._held.append(held)

    def unscale_(self, optimizer: Optimizer) -> bool:
        """Divide the gradients of an optimizer's parameters by s, in place: to clip them, for example, before `step`.

        Returns
        -------
        bool
            Whether all of them are finite.

        Raises
        ------
        GraphError
            They have been divided since the last `update`, or a CUDA graph is being recorded.
        """
        not_while_recording("GradScaler.unscale_", "Whether a scaled step is taken is decided on the host; "
                                                   "autocast('bfloat16') needs no scaling")
        if optimizer in self._finite:
            raise GraphError("GradScaler.unscale_", got="an optimizer whose gradients are unscaled already",
                             wanted="one call for each update()")
        gradients = [p.grad.data for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if self.enabled:
            for g in gradients:
                g[...] = g * (1.0 / self._scale)
            wrote(*gradients)
        self._finite[optimizer] = not self.enabled or all_finite_of(gradients)
        return self._finite[optimizer]

    def step(self, optimizer: Optimizer) -> bool:
        """``optimizer.step()`` with unscaled gradients, unless one of them is not finite.

        Returns
        -------
        bool
            Whether the step was taken.

        Raises
        ------
        GraphError
            The optimizer has stepped since the last `update`.
        """
        if optimizer in self._stepped:
            raise GraphError("GradScaler.step", got="an optimizer that has stepped already",
                             wanted="one step for each update()")
        if optimizer not in self._finite:
            self.unscale_(optimizer)
        if self._finite[optimizer]:
            optimizer.step()
        self._stepped.add(optimizer)
        return self._finite[optimizer]

    def update(self) -> None:
        """Commit or drop the statistics that were withheld, and let s fall or grow; once after the steps.

        Raises
        ------
        GraphError
            No optimizer's gradients were unscaled since the last call.
        """
        if not self._finite:
            raise GraphError("GradScaler.update", got="no step since the last update", wanted="step(optimizer) first")
        taken = all(self._finite.values())
        for held in self._held:
            (held.commit if taken else held.drop)()
        self._held, self._finite, self._stepped = [], {}, set()
        if not taken:
            self.skipped += 1
        if not self.enabled:
            return
        self._good = self._good + 1 if taken else 0
        if not taken:
            self._scale *= self.backoff_factor
        elif self._good == self.growth_interval:
            self._scale, self._good = min(self._scale * self.growth_factor, 2.0**127), 0

    # ---------------------------------------------------------------- its state

    def state_dict(self) -> dict[str, Any]:
        """s, how many steps were taken and left out, and the options: plain numbers. To be taken after `update`."""
        return {"scale": self._scale, "growth_factor": self.growth_factor, "backoff_factor": self.backoff_factor,
                "growth_interval": self.growth_interval, "growth_tracker": self._good, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises
        ------
        StateError
            A name or a number is not as `state_dict` gives it; nothing was changed.
        """
        own = self.state_dict()
        wrong = sorted(set(own) ^ set(state)) or [
            name for name, value in own.items()
            if type(state[name]) is not type(value) or not 0 <= state[name] < 2e38]
        if wrong:
            raise StateError("GradScaler.load_state_dict", got=f"another {', '.join(wrong)}",
                             wanted="what state_dict() gave")
        try:
            new = GradScaler(state["scale"], state["growth_factor"], state["backoff_factor"],
                             state["growth_interval"], self.enabled)
        except ArgumentError as error:
            raise StateError("GradScaler.load_state_dict", got=str(error), wanted="what state_dict() gave") from error
        new._good, new.skipped = state["growth_tracker"], state["skipped"]
        self.__dict__.update(new.__dict__)
