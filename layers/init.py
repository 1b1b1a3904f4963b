"""Initial values for parameters, under the names of torch.nn.init.

Each function writes into its Tensor with `Tensor.assign`, which records nothing, and returns it. Numbers are drawn in
float64 and then cast, so a model starts from the same numbers in every dtype.
"""

from __future__ import annotations

import math

from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops.random import Generator, default_generator
from minigrad.tensor import Tensor

__all__ = [
    "calculate_gain", "constant_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "uniform_",
    "xavier_normal_", "xavier_uniform_", "zeros_",
]

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
           "sigmoid")


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    return tensor.assign(val)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return tensor.assign(0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return tensor.assign(1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Independent numbers, uniform in [a, b).

    Parameters
    ----------
    tensor : Tensor
        A leaf.
    generator : Generator, optional
        Where the numbers come from; the default generator unless given.
    """
    stream = (generator or default_generator).stream(tensor.device)
    return tensor.assign(stream.random(tensor.shape) * (b - a) + a)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Independent normal numbers; `generator` as in `uniform_`."""
    stream = (generator or default_generator).stream(tensor.device)
    return tensor.assign(stream.standard_normal(tensor.shape) * std + mean)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·√(6 / (fan_in + fan_out)): a compromise that keeps the variance of signals both ways.

    (Glorot & Bengio, AISTATS 2010.) For a weight (out, in, …) with k elements in its axes after the second, fan_in is
    in·k and fan_out is out·k.

    Raises
    ------
    ShapeError
        The Tensor has fewer than two axes.
    """
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain·√(2 / (fan_in + fan_out)): see `xavier_uniform_`."""
    return normal_(tensor, 0, _xavier_std(tensor, gain), generator)


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Uniform in ±gain·√(3 / fan): signals keep their variance through layers of that nonlinearity.

    (He et al., arXiv:1502.01852.) The fans are those of `xavier_uniform_`.

    Parameters
    ----------
    tensor : Tensor
        A leaf with at least two axes.
    a : float
        The slope of leaky_relu below 0, for its gain.
    mode : "fan_in" or "fan_out"
        Whether forward or backward signals keep their variance.
    nonlinearity : str
        What follows the layer: see `calculate_gain`.
    generator : Generator, optional
        Where the numbers come from; the default generator unless given.

    Raises
    ------
    ShapeError, ArgumentError
        Fewer than two axes; an unknown mode or nonlinearity.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import init
    >>> weight = init.kaiming_uniform_(minigrad.empty(100, 24), nonlinearity="relu")    # bound √2·√(3/24) = 0.5
    >>> bool(0.49 < minigrad.abs(weight).max() <= 0.5)
    True
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain / √fan: see `kaiming_uniform_`."""
    return normal_(tensor, 0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much a nonlinearity shrinks signals, inverted: 1 for linear maps and sigmoid, 5/3 for tanh, √2 for relu,
    √(2 / (1 + param²)) for leaky_relu (`param` is its slope below 0, at first 0.01), 3/4 for selu.

    Raises
    ------
    ArgumentError
        Another nonlinearity.
    """
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
    if nonlinearity not in gains:
        raise ArgumentError("calculate_gain", got=f"nonlinearity={nonlinearity!r}",
                            wanted=f"one of {', '.join(map(repr, (*_LINEAR, *gains, 'leaky_relu')))}")
    return gains[nonlinearity]


def _fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out): how many inputs an output is summed over, and how many outputs an input goes into."""
    if tensor.ndim < 2:
        raise ShapeError("fan_in and fan_out", got=f"a Tensor of shape {tensor.shape}",
                         wanted="at least two axes, (out, in, …)")
    places = math.prod(tensor.shape[2:])
    return tensor.shape[1] * places, tensor.shape[0] * places


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / max(sum(_fans(tensor)), 1))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(tensor)))
    if mode not in fans:
        raise ArgumentError("kaiming initialization", got=f"mode={mode!r}", wanted="'fan_in' or 'fan_out'")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans[mode], 1))
