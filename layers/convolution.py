"""The convolution layers, their adjoints, and windows as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minigrad import functional as F
from minigrad.backend import Device, parameter_dtype
from minigrad.errors import ArgumentError, ShapeError
from minigrad.functional.arguments import paddings, per_axis, whole_number
from minigrad.layers import init
from minigrad.layers.module import Module
from minigrad.ops.random import Generator
from minigrad.tensor import Parameter

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold"]

Size = int | Sequence[int]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _Convolving(Module):
    """What all convolutions share: options of `axes` spatial axes, weight and bias with their initial values."""

    axes: ClassVar[int]
    weight: Parameter
    bias: Parameter | None

    def _options(self, in_channels: int, out_channels: int, groups: int, kernel_size: Size, stride: Size,
                 dilation: Size) -> None:
        name = type(self).__name__
        in_channels = whole_number(in_channels, name, "in_channels")
        out_channels = whole_number(out_channels, name, "out_channels")
        groups = whole_number(groups, name, "groups")
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(name, got=f"{in_channels} to {out_channels} channels in {groups} groups",
                                wanted="groups that divide both numbers of channels")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(kernel_size, self.axes, name, "kernel_size")
        self.stride = per_axis(stride, self.axes, name, "stride")
        self.dilation = per_axis(dilation, self.axes, name, "dilation")
        if min(*self.kernel_size, *self.stride, *self.dilation) < 1:
            raise ArgumentError(name, got=f"kernel_size={kernel_size}, stride={stride}, dilation={dilation}",
                                wanted="kernel_size, stride and dilation ≥ 1")

    def _parameters(self, shape: tuple[int, ...], bias: bool, device: str | Device | None, dtype: Any,
                    generator: Generator | None) -> None:
        dtype = parameter_dtype(dtype)
        self.weight = Parameter(np.empty((*shape, *self.kernel_size), dtype), device=device)
        self.register_parameter("bias", Parameter(np.empty(self.out_channels, dtype), device=device) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)  # that is ±1/√fan_in
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound, generator)

    def extra_repr(self) -> str:
        """Hyper-parameters, those alone that differ from their defaults."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        zeros, ones = (0,) * self.axes, (1,) * self.axes
        for name, usual in (("padding", zeros), ("dilation", ones), ("output_padding", zeros), ("groups", 1)):
            text += f", {name}={getattr(self, name)}" if getattr(self, name, usual) != usual else ""
        text += ", bias=False" if self.bias is None else ""
        mode = getattr(self, "padding_mode", "zeros")
        return text + (f", padding_mode={mode}" if mode != "zeros" else "")


class _Conv(_Convolving):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
                 padding: Size | str = 0, dilation: Size = 1, groups: int = 1, bias: bool = True,
                 padding_mode: str = "zeros", device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        self._options(in_channels, out_channels, groups, kernel_size, stride, dilation)
        if padding_mode not in PADDING_MODES:
            raise ArgumentError(name, got=f"padding_mode={padding_mode!r}",
                                wanted=f"one of {', '.join(map(repr, PADDING_MODES))}")
        pads = paddings(padding, self.kernel_size, self.stride, self.dilation, name)
        if min(map(min, pads)) < 0:
            raise ArgumentError(name, got=f"padding={padding}", wanted="0 or more")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, self.axes, name, "padding")
        self.padding_mode = padding_mode
        self._rim = [width for pair in reversed(pads) for width in pair]
        self._parameters((self.out_channels, self.in_channels // self.groups), bias, device, dtype, generator)

    def forward(self, x: Any) -> Any:
        """Convolve `x`."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._rim, self.padding_mode), 0
        return CONVOLUTIONS[self.axes](x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Conv1d(_Conv):
    """One-dimensional convolution; input (N, C, L) or (C, L). Parameters and initial values are those of `Conv2d`."""

    axes = 1


class Conv2d(_Conv):
    """Two-dimensional convolution; input (N, C, H, W) or (C, H, W).

        y[n,o,i,j] = b[o] + Σ_{c,k,l} W[o,c,k,l]·x[n, c, i·s + k·d − p, j·s + l·d − p]

    with the stride s, the dilation d and the padding p, which may differ between rows and columns.

    The output has ⌊(H + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1 rows, and columns likewise.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (height, width)
    padding : int, (height, width), "same" or "valid"
        Zeros around the input. "same" keeps height and width and needs stride 1; "valid" is 0.
    groups : int
        Divides both numbers of channels; group g of the outputs sees group g of the inputs alone.
    bias : bool
        Whether there is b. Before a BatchNorm it has no effect: the mean is subtracted again.
    padding_mode : "zeros", "reflect", "replicate" or "circular"
        What stands around the input: zeros, the input mirrored, its end, or the input begun anew.
    device, dtype
        Where, and of which type, the parameters are.
    generator : Generator, optional
        Where initial values come from; the default generator unless given.

    Attributes
    ----------
    weight : Parameter of shape (out_channels, in_channels/groups, kernel height, kernel width)
    bias : Parameter of shape (out_channels,), or None
        Both are at first uniform in ±1/√fan_in, with fan_in the number of weights of one output channel.

    Raises
    ------
    ArgumentError
        An option is out of range, or unknown.
    ShapeError
        When called: the input has other channels, or is smaller than the kernel.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import Conv2d
    >>> Conv2d(3, 8, kernel_size=3, stride=2, padding=1)(minigrad.ones(1, 3, 28, 28)).shape
    (1, 8, 14, 14)
    """

    axes = 2


class Conv3d(_Conv):
    """Three-dimensional convolution; input (N, C, D, H, W) or (C, D, H, W). Parameters are those of `Conv2d`."""

    axes = 3


class _ConvTranspose(_Convolving):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
                 padding_mode: str = "zeros", device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        self._options(in_channels, out_channels, groups, kernel_size, stride, dilation)
        if padding_mode != "zeros":
            raise ArgumentError(name, got=f"padding_mode={padding_mode!r}", wanted="'zeros'")
        self.padding = per_axis(padding, self.axes, name, "padding")
        self.output_padding = per_axis(output_padding, self.axes, name, "output_padding")
        if min(*self.padding, *self.output_padding) < 0:
            raise ArgumentError(name, got=f"padding={padding}, output_padding={output_padding}", wanted="0 or more")
        self._parameters((self.in_channels, self.out_channels // self.groups), bias, device, dtype, generator)

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Any:
        """Spread `x`; `output_size`, the spatial lengths wanted, takes the place of `output_padding`."""
        more = self.output_padding if output_size is None else self._fitting(x, tuple(output_size))
        return TRANSPOSED[self.axes](x, self.weight, self.bias, self.stride, self.padding, more, self.groups,
                                     self.dilation)

    def _fitting(self, x: Any, output_size: tuple[int, ...]) -> tuple[int, ...]:
        """The output_padding that gives these lengths."""
        wanted = output_size[-self.axes :] if len(output_size) == x.ndim else output_size
        least = [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, s, p, d, k in
                 zip(x.shape[-self.axes :], self.stride, self.padding, self.dilation, self.kernel_size)]
        if len(wanted) != self.axes or any(not low <= n < low + s for n, low, s in zip(wanted, least, self.stride)):
            raise ShapeError("forward", got=f"output_size={output_size} for input {tuple(x.shape)}",
                             wanted=f"lengths from {least} on, by less than the stride {self.stride} more")
        return tuple(n - low for n, low in zip(wanted, least))


class ConvTranspose1d(_ConvTranspose):
    """The adjoint of a one-dimensional convolution; input (N, C, L) or (C, L). Parameters as in `ConvTranspose2d`."""

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """The adjoint of a two-dimensional convolution; input (N, C, H, W) or (C, H, W).

    Each element of the input is spread over a window of the output, weighted by the kernel: what the gradient of
    `Conv2d` with the same options does. The output has (H − 1)·stride − 2·padding + dilation·(kernel − 1) +
    output_padding + 1 rows, and columns likewise.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or (height, width)
    padding : int or (height, width)
        What is cut off at both ends.
    output_padding : int or (height, width)
        What the output is longer at its end; below the stride or the dilation.
    groups : int
        Divides both numbers of channels.
    bias : bool
    padding_mode : "zeros"
    device, dtype
        Where, and of which type, the parameters are.
    generator : Generator, optional
        Where initial values come from; the default generator unless given.

    Attributes
    ----------
    weight : Parameter of shape (in_channels, out_channels/groups, kernel height, kernel width)
    bias : Parameter of shape (out_channels,), or None
        Both are at first uniform in ±1/√n, with n = out_channels/groups · kernel height · kernel width.

    Raises
    ------
    ArgumentError
        An option is out of range, or unknown.
    ShapeError
        When called: the input has other channels, or `output_size` cannot be reached.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import ConvTranspose2d
    >>> up = ConvTranspose2d(8, 3, kernel_size=3, stride=2, padding=1)
    >>> up(minigrad.ones(1, 8, 14, 14)).shape, up(minigrad.ones(1, 8, 14, 14), output_size=(28, 28)).shape
    ((1, 3, 27, 27), (1, 3, 28, 28))
    """

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """The adjoint of a three-dimensional convolution; input (N, C, D, H, W) or (C, D, H, W): see `ConvTranspose2d`."""

    axes = 3


class Unfold(Module):
    """The windows of images as columns: (N, C, H, W) to (N, C·kernel places, windows), or both without N.

    Parameters
    ----------
    kernel_size, dilation, padding, stride : int or (height, width)

    Raises
    ------
    ShapeError, ArgumentError
        When called: shapes or options do not fit.
    """

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> None:
        super().__init__()
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Any) -> Any:
        """Take `x` apart."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return (f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
                f"stride={self.stride}")


class Fold(Unfold):
    """Columns added up to images: the adjoint of `Unfold`; (N, C·kernel places, windows) to (N, C, *output_size).

    Parameters
    ----------
    output_size, kernel_size, dilation, padding, stride : int or (height, width)

    Raises
    ------
    ShapeError, ArgumentError
        When called: shapes or options do not fit.
    """

    def __init__(self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0,
                 stride: Size = 1) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """Put `x` together."""
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"output_size={self.output_size}, {super().extra_repr()}"
