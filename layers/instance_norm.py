"""InstanceNorm, which may have running statistics."""

from __future__ import annotations

import math
from collections.abc import Container
from typing import Any, ClassVar

import numpy as np

from minigrad import ops
from minigrad.backend import Device, namespace
from minigrad.layers.batch_norm import Tracked
from minigrad.layers.statistics import InstanceStatsUpdate
from minigrad.modes import current
from minigrad.op import value

__all__ = ["InstanceNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]


class InstanceNorm(Tracked):
    """Normalize each channel of each example over its places; input (N, C, …), or (C, …) in `InstanceNorm1d` to `3d`.

        y = γ·(x − μ) / √(σ² + ε) + β                          (Ulyanov, Vedaldi & Lempitsky, arXiv:1607.08022)

    Without running statistics, as usual, training and evaluation are the same. With them, the averages over the
    examples of μ and of the unbiased σ² go into the running ones in training, which are used in evaluation.

    Parameters
    ----------
    num_features : int
        C, at least 1.
    eps : float
        ε ≥ 0, under the root.
    momentum : float or None
        The weight of the *new* batch in the running averages. None makes them the plain average over all batches (in
        torch, where the number of batches is not counted, it leaves them as they are).
    affine : bool
        Whether there are γ (`weight`, at first 1) and β (`bias`, at first 0), of shape (C,).
    track_running_stats : bool
        Whether there are running statistics.
    device, dtype
        Where, and of which type, the parameters are. Running statistics are float32 at least.
    bias : bool
        Whether an affine layer has β.
    nonfinite, debias
        As in `BatchNorm`.

    Raises
    ------
    ShapeError
        When called: the rank or number of channels is wrong (also without γ, where torch only warns), or a channel of
        an example has one value and its statistics are wanted.

    Examples
    --------
    >>> from minigrad import Tensor
    >>> from minigrad.layers import InstanceNorm1d
    >>> InstanceNorm1d(2)(Tensor([[[1.0, 3.0], [0.0, 200.0]]])).numpy().round(3).tolist()
    [[[-1.0, 1.0], [-1.0, 1.0]]]
    """

    ranks: ClassVar[Container[int]] = range(3, 65)
    shape_text = "(N, C, …)"

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: str | Device | None = None, dtype: Any = np.float32, *,
                 bias: bool = True, nonfinite: str = "skip", debias: bool = False) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias, nonfinite,
                         debias)

    def forward(self, x: Any) -> Any:
        """Normalize `x`; in training, update the running statistics if there are any."""
        if isinstance(self.ranks, tuple) and len(x.shape) == self.ranks[0] - 1:  # without the batch
            return self.forward(ops.expand_dims(x, 0))[0]
        self._check_shape("forward", x.shape)
        if self.uses_running_stats:
            return ops.batch_norm_inference(x, self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        y, mean, variance, _ = ops.instance_norm(x, self.weight, self.bias, self.eps)
        if self.training and self.running_mean is not None and not current().recomputing and value(y).size:
            n, c = x.shape[:2]
            xp = namespace(value(mean))
            first, second = (xp.mean(xp.reshape(value(a), (n, c)), axis=0) for a in (mean, variance))
            self._updated_by(InstanceStatsUpdate(first, second, math.prod(x.shape[2:]), examples=n))
        return y

    def sharing(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self._check_shape(f"{type(self).__name__}.sharing", shape)
        return shape, tuple(range(2, len(shape)))


class InstanceNorm1d(InstanceNorm):
    """`InstanceNorm` for sequences (N, C, L) or (C, L)."""

    ranks = (3,)
    shape_text = "(N, C, L) or (C, L)"


class InstanceNorm2d(InstanceNorm):
    """`InstanceNorm` for images (N, C, H, W) or (C, H, W)."""

    ranks = (4,)
    shape_text = "(N, C, H, W) or (C, H, W)"


class InstanceNorm3d(InstanceNorm):
    """`InstanceNorm` for volumes (N, C, D, H, W) or (C, D, H, W)."""

    ranks = (5,)
    shape_text = "(N, C, D, H, W) or (C, D, H, W)"
