"""Attention under torch's name."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backend import device_of, namespace
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.op import value as array_of
from minigrad.ops.random import Generator, default_generator

__all__ = ["causal_mask", "scaled_dot_product_attention", "weighted_attention"]


def causal_mask(rows: int, columns: int, like: Any) -> Any:
    """Bools (rows, columns), on the device of `like`: query i sees the keys up to i."""
    xp = namespace(array_of(like))
    return xp.tril(xp.ones((rows, columns), dtype=bool))


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
                                 is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
                                 generator: Generator | None = None) -> Any:
    """softmax(scale·q·kᵀ + mask)·v (Vaswani et al., arXiv:1706.03762), as one operation.

    Parameters
    ----------
    query : (N, …, L, E)
    key : (N, …, S, E)
    value : (N, …, S, Ev)
    attn_mask : bool or floating point, broadcastable to (N, …, L, S), optional
        Where True, a query sees a key; numbers are added to the scores. A query that sees nothing gives 0.
    dropout_p : float
        Which part of the weights is set to 0, the others divided by 1 − p. There is no mode: pass 0 in evaluation.
    is_causal : bool
        Query i sees the keys up to i; not together with a mask.
    scale : float, optional
        1/√E unless given.
    enable_gqa : bool
        Let several heads of queries (axis −3) share one of keys and values, whose number must divide theirs.
    generator : Generator, optional
        Where dropout's choice comes from; the default generator unless given.

    Returns
    -------
    (N, …, L, Ev)

    Raises
    ------
    ShapeError, ArgumentError, DtypeError
        Shapes or options do not fit.
    """
    if is_causal and attn_mask is not None:
        raise ArgumentError("scaled_dot_product_attention", got="is_causal=True and attn_mask", wanted="one of them")
    if is_causal and min(query.ndim, key.ndim) >= 2:
        attn_mask = causal_mask(query.shape[-2], key.shape[-2], query)
    if enable_gqa:
        key, value = _shared(query, key), _shared(query, value)
    return weighted_attention(query, key, value, attn_mask, dropout_p, scale, generator)[0]


def _shared(query: Any, x: Any) -> Any:
    """Heads of keys or values, each as often as there are queries' heads for it."""
    if min(query.ndim, x.ndim) < 3 or x.shape[-3] == 0 or query.shape[-3] % x.shape[-3]:
        raise ShapeError("scaled_dot_product_attention",
                         got=f"query {tuple(query.shape)}, key or value {tuple(x.shape)}",
                         wanted="a number of heads (axis −3) that divides the query's")
    return ops.repeat(x, query.shape[-3] // x.shape[-3], x.ndim - 3)


def weighted_attention(query: Any, key: Any, values: Any, mask: Any = None, dropout_p: float = 0.0,
                       scale: float | None = None, generator: Generator | None = None) -> tuple[Any, Any]:
    """What attention gives, and the weights (…, L, S) it gave the values, before dropout."""
    if not 0 <= dropout_p <= 1:
        raise ArgumentError("scaled_dot_product_attention", got=f"dropout_p={dropout_p}", wanted="from 0 to 1")
    if mask is not None and array_of(mask).dtype.kind not in "bf":
        raise DtypeError("scaled_dot_product_attention", got=f"a mask of dtype {mask.dtype}",
                         wanted="bool or floating point")
    kept = None
    if dropout_p:
        stream = (generator or default_generator).stream(device_of(array_of(query)))
        heads = np.broadcast_shapes(tuple(query.shape[:-2]), tuple(key.shape[:-2]))
        kept = stream.random((*heads, query.shape[-2], key.shape[-2]), dtype="float32") >= dropout_p
    return ops.attention(query, key, values, mask, kept, scale, dropout_p)

