"""Dropout under torch's name."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.backend import device_of
from minigrad.errors import ArgumentError
from minigrad.op import value
from minigrad.ops.random import Generator, default_generator

__all__ = ["dropout"]


def dropout(input: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Any:
    """In training, set each element to 0 with probability `p` and divide the others by 1 − p; else return the input.

    Parameters
    ----------
    p : float
        From 0 to 1.
    generator : Generator, optional
        Where the choice comes from; the default generator unless given.

    Raises
    ------
    ArgumentError
        `p` is out of range.
    """
    if not 0 <= p <= 1:
        raise ArgumentError("dropout", got=f"p={p}", wanted="a probability, from 0 to 1")
    if not training or p == 0:
        return input
    stream = (generator or default_generator).stream(device_of(value(input)))
    return ops.dropout(input, stream.random(input.shape, dtype="float32") >= p, p)
