"""The normalizations without running statistics, and the base of all: LayerNorm, GroupNorm, RMSNorm, local response."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from minigrad import functional as F
from minigrad.backend import Device, parameter_dtype
from minigrad.errors import ArgumentError, ShapeError
from minigrad.functional.arguments import whole_number
from minigrad.layers.module import Module
from minigrad.ops.normalization import check_groups
from minigrad.tensor import Parameter

__all__ = ["GroupNorm", "LayerNorm", "LocalResponseNorm", "Normalization", "RMSNorm"]


class Normalization(Module):
    """Base of the normalizations: γ (`weight`, at first 1) and β (`bias`, at first 0), either of which may be absent.

    A subclass says in `sharing` which elements share a statistic.
    """

    weight: Parameter | None
    bias: Parameter | None
    eps: float | None

    def _check_eps(self, eps: float) -> None:
        if not eps >= 0:
            raise ArgumentError(type(self).__name__, got=f"eps={eps}", wanted="eps ≥ 0")

    def _add_parameters(self, shape: tuple[int, ...], weight: bool, bias: bool, device: str | Device | None,
                        dtype: Any) -> None:
        dtype = parameter_dtype(dtype)
        ones, zeros = np.ones(shape, dtype), np.zeros(shape, dtype)
        self.register_parameter("weight", Parameter(ones, device=device) if weight else None)
        self.register_parameter("bias", Parameter(zeros, device=device) if bias else None)

    @property
    def affine(self) -> bool:
        """Whether there is γ."""
        return self.weight is not None

    def reset_parameters(self) -> None:
        """Start again: γ = 1, β = 0."""
        if self.weight is not None:
            self.weight.assign(1)
        if self.bias is not None:
            self.bias.assign(0)

    def sharing(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Which elements of an input of `shape` share a statistic.

        Returns
        -------
        view : tuple of int
            A shape to view the input in,
        axes : tuple of int
            and the axes of that view over which a statistic is taken.

        Raises
        ------
        ShapeError
            The layer does not take such an input.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which elements share a statistic")


def _lengths(kind: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """`normalized_shape` as a tuple, checked."""
    lengths = normalized_shape if isinstance(normalized_shape, Iterable) else [normalized_shape]
    shape = tuple(whole_number(length, kind, "normalized_shape") for length in lengths)
    if not shape:
        raise ArgumentError(kind, got="normalized_shape=()", wanted="at least one length")
    return shape


class _OverLastAxes(Normalization):
    """What LayerNorm and RMSNorm share: statistics over the last axes of each example."""

    normalized_shape: tuple[int, ...]

    @property
    def elementwise_affine(self) -> bool:
        """Whether there is γ."""
        return self.weight is not None

    def sharing(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        lead = len(shape) - len(self.normalized_shape)
        if lead < 0 or tuple(shape[lead:]) != self.normalized_shape:
            raise ShapeError(f"{type(self).__name__}.sharing", got=f"shape {shape}",
                             wanted=f"last axes of {self.normalized_shape}")
        return shape, tuple(range(lead, len(shape)))


class LayerNorm(_OverLastAxes):
    """Normalize each example over its last axes (Ba, Kiros & Hinton, arXiv:1607.06450); input (…, *normalized_shape).

        y = γ·(x − μ) / √(σ² + ε) + β        with μ and the biased σ² over the last axes

    Batches play no part: training and evaluation are the same.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The lengths of the last axes.
    eps : float
        ε ≥ 0, under the root.
    elementwise_affine : bool
        Whether there are γ (`weight`, at first 1) and β (`bias`, at first 0), of shape `normalized_shape`.
    bias : bool
        Whether an affine layer has β.
    device, dtype
        Where, and of which type, the parameters are.

    Raises
    ------
    ShapeError
        When called: the last axes of the input are not `normalized_shape`.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import LayerNorm
    >>> LayerNorm(2)(Tensor([[1.0, 3.0], [0.0, 200.0]])).numpy().round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """

    eps: float

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True, device: str | Device | None = None, dtype: Any = np.float32) -> None:
        super().__init__()
        self._check_eps(eps)
        self.normalized_shape, self.eps = _lengths("LayerNorm", normalized_shape), eps
        self._add_parameters(self.normalized_shape, elementwise_affine, elementwise_affine and bias, device, dtype)

    def forward(self, x: Any, mask: Any = None) -> Any:
        """Normalize `x`; what a `mask` (see `minigrad.functional.layer_norm`) does not count stays out and gives 0."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps, mask=mask)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")


class RMSNorm(_OverLastAxes):
    """Divide each example by its root mean square over the last axes; input (…, *normalized_shape).

        y = γ·x / √(⟨x²⟩ + ε)                              (Zhang & Sennrich, arXiv:1910.07467)

    It does not centre: a LayerNorm without its mean. Training and evaluation are the same.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The lengths of the last axes.
    eps : float, optional
        ε ≥ 0, under the root. None means the spacing of the dtype in which the mean is taken, at 1: 1.2e-7 in float32.
    elementwise_affine : bool
        Whether there is γ (`weight`, at first 1), of shape `normalized_shape`.
    device, dtype
        Where, and of which type, the parameter is.

    Raises
    ------
    ShapeError
        When called: the last axes of the input are not `normalized_shape`.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import RMSNorm
    >>> print(RMSNorm(2)(Tensor([[3.0, 4.0]])).numpy().round(4))    # divided by √12.5
    [[0.8485 1.1314]]
    """

    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True,
                 device: str | Device | None = None, dtype: Any = np.float32) -> None:
        super().__init__()
        self._check_eps(0.0 if eps is None else eps)
        self.normalized_shape, self.eps = _lengths("RMSNorm", normalized_shape), eps
        self._add_parameters(self.normalized_shape, elementwise_affine, False, device, dtype)
        del self.bias  # torch's has none, not even an absent one

    def forward(self, x: Any) -> Any:
        """Divide `x` by its root mean square."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def reset_parameters(self) -> None:
        """Start again: γ = 1."""
        if self.weight is not None:
            self.weight.assign(1)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Normalization):
    """Normalize groups of neighbouring channels of each example (Wu & He, arXiv:1803.08494); input (N, C) or (N, C, …).

        y = γ·(x − μ) / √(σ² + ε) + β        with μ and the biased σ² over the C/G channels of a group and all places

    Batches play no part: training and evaluation are the same. One group makes it a LayerNorm over channels and places
    with γ and β per channel, C groups an InstanceNorm.

    Parameters
    ----------
    num_groups : int
        G; group g has the channels g·C/G to (g + 1)·C/G − 1.
    num_channels : int
        C.
    eps : float
        ε ≥ 0, under the root.
    affine : bool
        Whether there are γ (`weight`, at first 1) and β (`bias`, at first 0), of shape (C,).
    device, dtype
        Where, and of which type, the parameters are.
    bias : bool
        Whether an affine layer has β.

    Raises
    ------
    ArgumentError
        G does not divide C; the message lists the numbers that do.
    ShapeError
        When called: the number of channels is not C, or the whole batch has one value per group, as in torch.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import GroupNorm
    >>> GroupNorm(2, 4)(Tensor([[1.0, 3.0, 0.0, 200.0]])).numpy().round(3).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    >>> GroupNorm(3, 4)
    Traceback (most recent call last):
    ...
    minigrad.errors.ArgumentError: GroupNorm: got 3 groups for 4 channels; wanted a number that divides 4: 1, 2, 4
    """

    eps: float

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
                 device: str | Device | None = None, dtype: Any = np.float32, *, bias: bool = True) -> None:
        super().__init__()
        self._check_eps(eps)
        num_channels = whole_number(num_channels, "GroupNorm", "num_channels")
        num_groups = whole_number(num_groups, "GroupNorm", "num_groups")
        check_groups("GroupNorm", num_groups, num_channels)
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self._add_parameters((num_channels,), affine, affine and bias, device, dtype)

    def _check_shape(self, where: str, shape: tuple[int, ...]) -> None:
        if len(shape) < 2 or shape[1] != self.num_channels:
            raise ShapeError(where, got=f"input of shape {tuple(shape)}",
                             wanted=f"(N, C) or (N, C, …) with C = {self.num_channels}")

    def forward(self, x: Any) -> Any:
        """Normalize `x`."""
        self._check_shape("forward", x.shape)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def sharing(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self._check_shape("GroupNorm.sharing", shape)
        view = (shape[0], self.num_groups, self.num_channels // self.num_groups, *shape[2:])
        return view, tuple(range(2, len(view)))

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")


class LocalResponseNorm(Module):
    """Divide each element by the energy of its neighbours in other channels; input (N, C) or (N, C, …).

        y = x / (k + α·⟨x²⟩)^β        with the mean over `size` neighbouring channels, missing ones counting as 0

    (Krizhevsky, Sutskever & Hinton, 2012, section 3.3, whose α is this one divided by `size`.) Training and evaluation
    are the same, and there are no parameters.

    Parameters
    ----------
    size : int
        The number of channels in a window: size // 2 before the channel itself, (size − 1) // 2 behind it.
    alpha, beta, k : float

    Raises
    ------
    ArgumentError
        `size` is below 1.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import LocalResponseNorm
    >>> print(LocalResponseNorm(1, alpha=1.0, beta=0.5)(Tensor([[0.0, 3.0]])).numpy().round(4))    # 3 / √(1 + 9)
    [[0.     0.9487]]
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        size = whole_number(size, "LocalResponseNorm", "size")
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Any) -> Any:
        """Normalize `x`."""
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
