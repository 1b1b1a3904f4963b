"""Convolutions under torch's names. All are correlations: the kernel is not flipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops
from minigrad.errors import ShapeError
from minigrad.functional.arguments import batched, paddings, per_axis

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold", "unfold"]

Size = int | Sequence[int]


def _convolved(axes: int, x: Any, weight: Any, bias: Any, stride: Size, padding: Size | str, dilation: Size,
               groups: int) -> Any:
    where = f"conv{axes}d"
    if weight.ndim != axes + 2:
        raise ShapeError(where, got=f"weight {tuple(weight.shape)}", wanted=f"(O, C/groups, …), {axes} spatial axes")
    x, added = batched(x, axes, where)
    steps, spread = per_axis(stride, axes, where, "stride"), per_axis(dilation, axes, where, "dilation")
    pads = paddings(padding, tuple(weight.shape[2:]), steps, spread, where)
    y = ops.convolution(x, weight, bias, steps, pads, spread, groups)
    return ops.squeeze(y, 0) if added else y


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1,
           groups: int = 1) -> Any:
    """One-dimensional convolution of (N, C, L) or (C, L) with kernels (O, C/groups, length): see `conv2d`."""
    return _convolved(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1,
           groups: int = 1) -> Any:
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
    return _convolved(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1,
           groups: int = 1) -> Any:
    """Three-dimensional convolution of (N, C, D, H, W) or (C, D, H, W): see `conv2d`."""
    return _convolved(3, input, weight, bias, stride, padding, dilation, groups)


def _transposed(axes: int, x: Any, weight: Any, bias: Any, stride: Size, padding: Size, output_padding: Size,
                groups: int, dilation: Size) -> Any:
    where = f"conv_transpose{axes}d"
    if weight.ndim != axes + 2:
        raise ShapeError(where, got=f"weight {tuple(weight.shape)}", wanted=f"(C, O/groups, …), {axes} spatial axes")
    x, added = batched(x, axes, where)
    steps, pads, more, spread = (per_axis(given, axes, where, name) for given, name in (
        (stride, "stride"), (padding, "padding"), (output_padding, "output_padding"), (dilation, "dilation")))
    y = ops.convolution_transpose(x, weight, bias, steps, pads, more, spread, groups)
    return ops.squeeze(y, 0) if added else y


def conv_transpose1d(input: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1) -> Any:
    """The adjoint of a one-dimensional convolution, of (N, C, L) or (C, L): see `conv_transpose2d`."""
    return _transposed(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1) -> Any:
    """The adjoint of a two-dimensional convolution: each element of the input is spread over a window of the output.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    weight : (C, O/groups, kernel height, kernel width)
    bias : (O,), optional
    stride, dilation : int or (height, width)
        Of the convolution.
    padding : int or (height, width)
        Of the convolution: what is cut off at both ends here.
    output_padding : int or (height, width)
        What the output is longer at its end; below the stride or the dilation.

    Returns
    -------
    (N, O, H', W') or (O, H', W'), H' = (H − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1

    Raises
    ------
    ShapeError, ArgumentError
        Shapes or options do not fit.
    """
    return _transposed(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1) -> Any:
    """The adjoint of a three-dimensional convolution, of (N, C, D, H, W) or (C, D, H, W): see `conv_transpose2d`."""
    return _transposed(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def _windows(where: str, kernel_size: Size, stride: Size, padding: Size, dilation: Size) -> list[tuple[int, ...]]:
    return [per_axis(given, 2, where, name) for given, name in (
        (kernel_size, "kernel_size"), (stride, "stride"), (padding, "padding"), (dilation, "dilation"))]


def unfold(input: Any, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Any:
    """The windows of images (N, C, H, W) or (C, H, W) as columns (N, C·kernel places, windows) or without N.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes or options do not fit.
    """
    x, added = batched(input, 2, "unfold")
    y = ops.unfold(x, *_windows("unfold", kernel_size, stride, padding, dilation))
    return ops.squeeze(y, 0) if added else y


def fold(input: Any, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0,
         stride: Size = 1) -> Any:
    """Columns (N, C·kernel places, windows), or without N, added up to images of `output_size`: adjoint of `unfold`.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes or options do not fit.
    """
    if input.ndim not in (2, 3):
        raise ShapeError("fold", got=f"input {tuple(input.shape)}", wanted="(N, C·kernel places, windows) or without N")
    x = ops.expand_dims(input, 0) if input.ndim == 2 else input
    spatial = per_axis(output_size, 2, "fold", "output_size")
    y = ops.fold(x, spatial, *_windows("fold", kernel_size, stride, padding, dilation))
    return ops.squeeze(y, 0) if input.ndim == 2 else y
