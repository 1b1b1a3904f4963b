"""What a trainer's step does about its precision: plain, or mixed with a loss scaler."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import minigrad
from minigrad import optim


class Precision:
    """Forward pass, backward pass and step in the precision that `--precision` names.

    "mixed" computes products in float16 and all else in float32, with float32 weights; see `minigrad.autocast` and
    `minigrad.optim.GradScaler`. The attribute `scaler`, else None, belongs into checkpoints.
    """

    def __init__(self, name: str, model: Any, optimizer: optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.scaler = optim.GradScaler() if name == "mixed" else None

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """Around the forward pass and the loss."""
        if self.scaler is None:
            yield
            return
        with minigrad.autocast("float16"), self.scaler.withheld(self.model):
            yield

    def backward(self, loss: Any) -> None:
        """``loss.backward()``, scaled if need be."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def ready(self) -> bool:
        """Whether the gradients are those of the loss, and the step is to be taken: False where scaling overflowed.

        Then the scale falls, until it is so small that it cannot be the reason.
        """
        scaler = self.scaler
        if scaler is None or scaler.unscale_(self.optimizer) or scaler.get_scale() < 1:
            return True
        scaler.step(self.optimizer)  # leaves the step out
        scaler.update()
        return False

    def step(self) -> None:
        """The optimizer's step."""
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
