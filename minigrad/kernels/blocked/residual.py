"""BatchNorm with a residual and an activation on the CPU: by the kernels of its parts, and sums in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.kernels.registry import accelerates
from minigrad.op import apply
from minigrad.ops.normalization_texts import ACTIVATIONS, BatchNorm, ResidualBatchNorm


def _alone(op: Any) -> BatchNorm:
    """The operation without what follows the normalization."""
    return BatchNorm(op.axes, op.param_shape, op.eps)


@accelerates(ResidualBatchNorm, "forward", tier="numpy")
def forward(op: Any, x: Any, weight: Any, bias: Any, residual: Any) -> Any:
    """(a(y + residual), mean, variance, rstd), as the text gives them."""
    if x.dtype.kind != "f" or residual.dtype != x.dtype:
        return NotImplemented
    y, *statistics = _alone(op).run_forward(x, weight, bias)
    op._remember(weight, bias)
    y += residual
    if op.activation == "relu":
        np.maximum(y, 0, out=y)
    else:
        y = apply(ACTIVATIONS[op.activation], y)
    return y, *statistics


@accelerates(ResidualBatchNorm, "backward", tier="numpy")
def backward(op: Any, saved: Any, needs: Any, gy: Any, *statistics: Any) -> Any:
    """(gx, gweight, gbias, gresidual), as the text gives them."""
    if gy is None:
        return NotImplemented
    *saved, y = saved
    (gy,) = ACTIVATIONS[op.activation].run_backward((y,), (True,), gy)
    alone = _alone(op)
    alone._parameter = op._parameter
    found = alone.run_backward(saved, needs[:3], gy, *statistics)
    return *found, gy if needs[3] else None
