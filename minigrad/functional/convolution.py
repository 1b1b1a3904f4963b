"""Convolution under torch's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops
from minigrad.errors import ShapeError
from minigrad.functional.arguments import batched, paddings, per_axis

__all__ = ["conv2d"]


def conv2d(input: Any, weight: Any, bias: Any = None, stride: int | Sequence[int] = 1,
           padding: int | str | Sequence[int] = 0, dilation: int | Sequence[int] = 1, groups: int = 1) -> Any:
    """Two-dimensional convolution (correlation: the kernel is not flipped).

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    weight : (O, C/groups, kernel height, kernel width)
    bias : (O,), optional
    stride, dilation : int or (height, width)
    padding : int, (height, width), "same" or "valid"
        Zeros around the input. "same" keeps height and width and needs stride 1.
    groups : int
        Group g of the output channels sees group g of the input channels alone.

    Returns
    -------
    (N, O, H', W') or (O, H', W'), with H' = ⌊(H + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1

    Raises
    ------
    ShapeError, ArgumentError
        Shapes or options do not fit.
    """
    if weight.ndim != 4:
        raise ShapeError("conv2d", got=f"weight {tuple(weight.shape)}", wanted="(O, C/groups, height, width)")
    x, added = batched(input, 2, "conv2d")
    steps = per_axis(stride, 2, "conv2d", "stride")
    spread = per_axis(dilation, 2, "conv2d", "dilation")
    pads = paddings(padding, tuple(weight.shape[2:]), steps, spread, "conv2d")
    y = ops.convolution(x, weight, bias, steps, pads, spread, groups)
    return ops.squeeze(y, 0) if added else y
