"""The convolution layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad import functional as F
from minigrad.backend import Device
from minigrad.errors import ArgumentError
from minigrad.functional.arguments import paddings, per_axis, whole_number
from minigrad.layers import init
from minigrad.layers.module import Module
from minigrad.ops.random import Generator
from minigrad.tensor import Parameter

__all__ = ["Conv2d"]


class Conv2d(Module):
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
    padding_mode : "zeros"
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

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int],
                 stride: int | Sequence[int] = 1, padding: int | str | Sequence[int] = 0,
                 dilation: int | Sequence[int] = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
                 device: str | Device | None = None, dtype: Any = np.float32,
                 generator: Generator | None = None) -> None:
        super().__init__()
        in_channels = whole_number(in_channels, "Conv2d", "in_channels")
        out_channels = whole_number(out_channels, "Conv2d", "out_channels")
        groups = whole_number(groups, "Conv2d", "groups")
        if in_channels % groups or out_channels % groups:
            raise ArgumentError("Conv2d", got=f"{in_channels} to {out_channels} channels in {groups} groups",
                                wanted="groups that divide both numbers of channels")
        if padding_mode != "zeros":
            raise ArgumentError("Conv2d", got=f"padding_mode={padding_mode!r}", wanted="'zeros'")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(kernel_size, 2, "Conv2d", "kernel_size")
        self.stride = per_axis(stride, 2, "Conv2d", "stride")
        self.dilation = per_axis(dilation, 2, "Conv2d", "dilation")
        pads = paddings(padding, self.kernel_size, self.stride, self.dilation, "Conv2d")
        if min(*self.kernel_size, *self.stride, *self.dilation) < 1 or min(map(min, pads)) < 0:
            raise ArgumentError("Conv2d", got=f"kernel_size={kernel_size}, stride={stride}, padding={padding}, "
                                              f"dilation={dilation}",
                                wanted="kernel_size, stride and dilation ≥ 1, padding ≥ 0")
        self.padding = padding if isinstance(padding, str) else per_axis(padding, 2, "Conv2d", "padding")
        weight = np.empty((out_channels, in_channels // groups, *self.kernel_size), dtype)
        self.weight = Parameter(weight, device=device)
        self.register_parameter("bias", Parameter(np.empty(out_channels, dtype), device=device) if bias else None)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5), generator=generator)  # that is ±1/√fan_in
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            init.uniform_(self.bias, -bound, bound, generator)

    def forward(self, x: Any) -> Any:
        """Convolve `x`."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Hyper-parameters, those alone that differ from their defaults."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, usual in (("padding", (0, 0)), ("dilation", (1, 1)), ("groups", 1)):
            text += f", {name}={getattr(self, name)}" if getattr(self, name) != usual else ""
        return text + (", bias=False" if self.bias is None else "")
