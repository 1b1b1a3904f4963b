"""What a batch says about the running statistics of a BatchNorm layer, as plain arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minigrad.backend import Array, astype, namespace

__all__ = ["StatsUpdate", "nonfinite_channels"]


@dataclass(frozen=True)
class StatsUpdate:
    """The statistics of one batch, per channel: what goes into the running averages.

    Attributes
    ----------
    mean : (C,) array
        ⟨x⟩.
    variance : (C,) array
        The biased variance, ⟨(x − μ)²⟩: the mean of squares, divided by m.
    count : int
        m, the number of values per channel; at least 2.
    """

    mean: Array
    variance: Array
    count: int

    def applied(self, running_mean: Array, running_var: Array, momentum: float) -> tuple[Array, Array]:
        """New running averages, in new arrays of the old ones' dtypes.

        With the momentum a, the weight of this batch (Keras means 1 − a by that name),

            running_mean ← (1 − a)·running_mean + a·μ        running_var ← (1 − a)·running_var + a·σ²·m/(m − 1)

        The factor m/(m − 1) makes the variance unbiased (Bessel). What does not fit the dtype becomes infinite, without
        a warning.

        Parameters
        ----------
        running_mean, running_var : (C,) arrays
        momentum : float
            From 0 to 1.

        Examples
        --------
        >>> import numpy as np
        >>> batch = StatsUpdate(np.array([3.0]), np.array([2.0]), count=2)
        >>> batch.applied(np.array([0.0]), np.array([1.0]), momentum=0.5)
        (array([1.5]), array([2.5]))
        """
        kept = 1 - momentum
        unbiased = momentum * (self.count / (self.count - 1))
        with np.errstate(over="ignore", invalid="ignore"):
            mean = running_mean * kept + self.mean * momentum
            variance = running_var * kept + self.variance * unbiased
            return astype(mean, running_mean.dtype), astype(variance, running_var.dtype)


def nonfinite_channels(mean: Array, variance: Array) -> list[int]:
    """The channels in which one of two (C,) arrays is infinite or NaN."""
    # One product answers for almost every batch: it is finite only if all elements are (∞·0 is NaN). It may overflow
    # although they are, so what it doubts is looked at one by one.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(mean.dot(variance)):
            return []
    xp = namespace(mean)
    return [int(c) for c in xp.nonzero(~(xp.isfinite(mean) & xp.isfinite(variance)))[0]]
