"""Pooling over images (N, C, H, W) or (C, H, W)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from minigrad import functional as F
from minigrad.functional.arguments import per_axis
from minigrad.layers.module import Module

__all__ = ["AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d",
           "MaxPool1d", "MaxPool2d", "MaxPool3d"]

Size = int | Sequence[int]


class _MaxPool(Module):
    pool: ClassVar[Callable[..., Any]]

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
                 return_indices: bool = False, ceil_mode: bool = False) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        """Pool `x`."""
        return type(self).pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
                               self.return_indices)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
                f"dilation={self.dilation}, ceil_mode={self.ceil_mode}")


class MaxPool1d(_MaxPool):
    """The largest element under each window of (N, C, L) or (C, L): see `MaxPool2d`."""

    pool = F.max_pool1d


class MaxPool2d(_MaxPool):
    """The largest element under each window. Of equal ones the first receives the gradient.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or (height, width)
        The stride is the kernel's size unless given. Padding counts as −∞ and is at most half the kernel.
    return_indices : bool
        Also return where each was found (int64, counted row by row in H × W).
    ceil_mode : bool
        Let the last window hang over the end.

    Raises
    ------
    ShapeError, ArgumentError
        When called: shapes or options do not fit.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import MaxPool2d
    >>> MaxPool2d(2)(minigrad.arange(16).reshape(1, 1, 4, 4)).tolist()
    [[[[5, 7], [13, 15]]]]
    """

    pool = F.max_pool2d


class MaxPool3d(_MaxPool):
    """The largest element under each window of (N, C, D, H, W) or (C, D, H, W): see `MaxPool2d`."""

    pool = F.max_pool3d


class _AvgPool(Module):
    pool: ClassVar[Callable[..., Any]]

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True, divisor_override: int | None = None) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Any) -> Any:
        """Pool `x`."""
        return type(self).pool(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad,
                               self.divisor_override)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(Module):
    """The mean of the elements under each window of (N, C, L) or (C, L); parameters as in `AvgPool2d`."""

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True) -> None:
        super().__init__()
        axis = [per_axis(given, 1, "AvgPool1d", name) for given, name in (
            (kernel_size, "kernel_size"), (kernel_size if stride is None else stride, "stride"), (padding, "padding"))]
        self.kernel_size, self.stride, self.padding = axis
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        """Pool `x`."""
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_AvgPool):
    """The mean of the elements under each window.

    Parameters
    ----------
    kernel_size, stride, padding : int or (height, width)
        The stride is the kernel's size unless given. Padding is at most half the kernel.
    ceil_mode : bool
        Let the last window hang over the end.
    count_include_pad : bool
        Count the zeros of the padding as elements.
    divisor_override : int, optional
        Divide every sum by this.

    Raises
    ------
    ShapeError, ArgumentError
        When called: shapes or options do not fit.
    """

    pool = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of the elements under each window of (N, C, D, H, W) or (C, D, H, W): see `AvgPool2d`."""

    pool = F.avg_pool3d


class _AdaptiveAvgPool(Module):
    pool: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """Pool `x`."""
        return type(self).pool(x, self.output_size)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means over windows that divide (N, C, L) or (C, L) evenly: see `AdaptiveAvgPool2d`."""

    pool = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means over windows that divide the input as evenly as whole numbers allow; output size 1 is the global average.

    Parameters
    ----------
    output_size : int or (height, width)
        None keeps the length of an axis.

    Raises
    ------
    ArgumentError
        When called: another output size.
    """

    pool = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means over windows that divide (N, C, D, H, W) or (C, D, H, W) evenly: see `AdaptiveAvgPool2d`."""

    pool = F.adaptive_avg_pool3d
