"""What libraries with NumPy's names share: normalizations and networks as formulas over a namespace.

BatchNorm's running averages are left out: these libraries have no layer that would keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from works import Work, weights

EPS = {"RMSNorm": float(np.finfo(np.float32).eps)}
AXES = {"BatchNorm1d": (0,), "BatchNorm2d": (0, 2, 3), "LayerNorm": (-1,), "RMSNorm": (-1,), "InstanceNorm2d": (2, 3)}
GROUPS = 8
#: What applies one kind of layer: (input, sizes in `works.NETWORKS`, its parameters) to output.
Layer = Callable[[Any, Sequence[int], Sequence[Any]], Any]


def normalize(xp: Any, kind: str, x: Any, weight: Any, bias: Any = None) -> Any:
    """A normalization in training; RMSNorm has no mean and no bias."""
    eps = EPS.get(kind, 1e-5)
    if kind == "RMSNorm":
        return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps) * weight
    shape, axes = x.shape, AXES.get(kind, (-1,))
    if kind == "GroupNorm":
        x = xp.reshape(x, (shape[0], GROUPS, -1))
    centred = x - xp.mean(x, axis=axes, keepdims=True)
    y = xp.reshape(centred / xp.sqrt(xp.mean(centred * centred, axis=axes, keepdims=True) + eps), shape)
    if kind != "LayerNorm":
        weight, bias = (xp.reshape(p, (-1, *(1,) * (len(shape) - 2))) for p in (weight, bias))
    return y * weight + bias


def norm_parameters(work: Work) -> list[np.ndarray]:
    """Weight and bias of the normalization of a "norm" when it is new; RMSNorm has no bias."""
    kind, shape = work.detail
    size = shape[-1] if kind in ("LayerNorm", "RMSNorm") else shape[1]
    return [np.ones(size, np.float32), np.zeros(size, np.float32)][: 1 if kind == "RMSNorm" else 2]


def gradients_by_name(y: Any, gx: Any, parameters: Sequence[Any]) -> dict[str, Any]:
    """What a "norm" or a "conv" computes, as it is compared."""
    return {"y": y, "gx": gx, **{f"g_{name}": g for name, g in zip(("weight", "bias"), parameters)}}


def network_parameters(stack: Sequence[tuple[Any, ...]]) -> list[tuple[np.ndarray, ...]]:
    """Weight and bias of every layer of a network, as it begins; nothing for layers without."""
    found: list[tuple[np.ndarray, ...]] = []
    for place, (kind, *sizes) in enumerate(stack):
        if kind in ("linear", "conv"):
            found.append(weights((kind, *sizes), place))
        elif kind in ("norm1", "norm2"):
            found.append((np.ones(sizes[0], np.float32), np.zeros(sizes[0], np.float32)))
        else:
            found.append(())
    return found


def layers_of(xp: Any) -> dict[str, Layer]:
    """The layers that need no more than a namespace: all but "conv" and "pool"."""
    return {
        "linear": lambda x, _, p: xp.matmul(x, p[0].T) + p[1],
        "norm1": lambda x, _, p: normalize(xp, "BatchNorm1d", x, *p),
        "norm2": lambda x, _, p: normalize(xp, "BatchNorm2d", x, *p),
        "sigmoid": lambda x, _, p: 1 / (1 + xp.exp(-x)),
        "relu": lambda x, _, p: xp.maximum(x, 0),
        "flatten": lambda x, _, p: xp.reshape(x, (x.shape[0], -1)),
        "mean": lambda x, _, p: xp.mean(x, axis=(2, 3)),
    }


def forward(layers: dict[str, Layer], stack: Sequence[tuple[Any, ...]], parameters: Sequence[Sequence[Any]],
            x: Any) -> Any:
    """The scores of a network."""
    for (kind, *sizes), held in zip(stack, parameters):
        x = layers[kind](x, sizes, held)
    return x


def cross_entropy(xp: Any, scores: Any, target: np.ndarray) -> Any:
    """The mean over a batch."""
    shifted = scores - xp.max(scores, axis=1, keepdims=True)
    right = shifted[np.arange(len(target)), target]
    return xp.mean(xp.log(xp.sum(xp.exp(shifted), axis=1)) - right)
