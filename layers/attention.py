"""Multi-head attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import functional as F
from minigrad import ops
from minigrad.backend import Device, namespace, parameter_dtype
from minigrad.errors import ArgumentError, DtypeError, ShapeError
from minigrad.functional.attention import causal_mask, weighted_attention
from minigrad.layers import init
from minigrad.layers.linear import Linear
from minigrad.layers.module import Module
from minigrad.op import value
from minigrad.ops.random import Generator
from minigrad.tensor import Parameter

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Several attentions side by side, each on a part of the features (Vaswani et al., arXiv:1706.03762).

    Parameters
    ----------
    embed_dim : int
        Features of queries and of the output.
    num_heads : int
        Divides `embed_dim`.
    dropout : float
        Of the attention weights, in training.
    bias : bool
        Whether the projections have biases.
    add_bias_kv : bool
        Whether there is one more key and value, which are trained.
    add_zero_attn : bool
        Whether there is one more key and value of zeros.
    kdim, vdim : int, optional
        Features of keys and values; `embed_dim` unless given.
    batch_first : bool
        Whether inputs and output are (N, L, features) instead of (L, N, features).
    device, dtype
        Where, and of which type, the parameters are.
    generator : Generator, optional
        Where initial values and dropout's choices come from; the default generator unless given.

    Attributes
    ----------
    in_proj_weight : Parameter (3·embed_dim, embed_dim), or None
        Of queries, keys and values, one below the other. With other `kdim` or `vdim` there are `q_proj_weight`,
        `k_proj_weight` and `v_proj_weight` instead. Xavier uniform at first.
    in_proj_bias : Parameter (3·embed_dim,), or None
        At first 0.
    bias_k, bias_v : Parameter (1, 1, embed_dim), or None
        Xavier normal at first.
    out_proj : Linear
        Its bias is 0 at first.

    Raises
    ------
    ArgumentError
        `embed_dim` is no multiple of `num_heads`, or another option is out of range.
    ShapeError, DtypeError
        When called: shapes or masks do not fit.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import MultiheadAttention
    >>> attention = MultiheadAttention(8, 2, batch_first=True)
    >>> x = minigrad.ones(5, 3, 8)
    >>> y, weights = attention(x, x, x, is_causal=True)
    >>> y.shape, weights[0].numpy().round(2).tolist()
    ((5, 3, 8), [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.33000001311302185, 0.33000001311302185, 0.33000001311302185]])
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True,
                 add_bias_kv: bool = False, add_zero_attn: bool = False, kdim: int | None = None,
                 vdim: int | None = None, batch_first: bool = False, device: str | Device | None = None,
                 dtype: Any = np.float32, generator: Generator | None = None) -> None:
        super().__init__()
        if min(embed_dim, num_heads) < 1 or embed_dim % num_heads:
            raise ArgumentError("MultiheadAttention", got=f"embed_dim={embed_dim}, num_heads={num_heads}",
                                wanted="numbers above 0, the second dividing the first")
        if not 0 <= dropout <= 1:
            raise ArgumentError("MultiheadAttention", got=f"dropout={dropout}", wanted="a probability, from 0 to 1")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self.generator = generator
        one = self.kdim == self.vdim == embed_dim

        def new(wanted: bool, *shape: int) -> Parameter | None:
            return Parameter(np.empty(shape, parameter_dtype(dtype)), device=device) if wanted else None

        self.register_parameter("in_proj_weight", new(one, 3 * embed_dim, embed_dim))
        for name, features in (("q", embed_dim), ("k", self.kdim), ("v", self.vdim)):
            self.register_parameter(f"{name}_proj_weight", new(not one, embed_dim, features))
        self.register_parameter("in_proj_bias", new(bias, 3 * embed_dim))
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype, generator)
        self.register_parameter("bias_k", new(add_bias_kv, 1, 1, embed_dim))
        self.register_parameter("bias_v", new(add_bias_kv, 1, 1, embed_dim))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight, generator=generator)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra, generator=generator)

    def forward(self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, need_weights: bool = True,
                attn_mask: Any = None, average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Any, Any]:
        """Attend.

        Parameters
        ----------
        query : (L, N, embed_dim), (N, L, embed_dim) with `batch_first`, or (L, embed_dim)
        key, value : likewise, of length S and with kdim and vdim features
        key_padding_mask : bool (N, S), or (S,) without a batch, optional
            Where True, a key is not seen. Numbers are added to the scores.
        need_weights : bool
            Whether to return the weights, too.
        attn_mask : bool (L, S) or (N·num_heads, L, S), optional
            Where True, a query does *not* see a key: the opposite of `scaled_dot_product_attention`, as in torch.
            Numbers are added to the scores.
        average_attn_weights : bool
            Whether weights are averaged over the heads.
        is_causal : bool
            Query i sees the keys up to i. With `attn_mask`, that one counts.

        Returns
        -------
        output : of the query's shape
        weights : (N, L, S), (N, num_heads, L, S) if not averaged, without N if the query has none; or None
        """
        single = query.ndim == 2
        axis = 0 if self.batch_first or single else 1
        q, k, v, same = self._batches(query, key, value, single, axis)
        mask = self._mask(attn_mask, key_padding_mask, is_causal, q, k, single)
        q, k, v = self._projected(q, k, v, same)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (ops.concat([x, ops.broadcast_to(b, (x.shape[0], 1, self.embed_dim))], 1)
                    for x, b in ((k, self.bias_k), (v, self.bias_v)))
        if self.add_zero_attn:
            k, v = (ops.pad(x, ((0, 0), (0, 1), (0, 0))) for x in (k, v))
        dropout = self.dropout if self.training else 0.0
        y, weights = weighted_attention(self._heads(q), self._heads(k), self._heads(v), mask, dropout,
                                        generator=self.generator)
        y = self.out_proj(ops.reshape(ops.permute_dims(y, (0, 2, 1, 3)), tuple(q.shape)))
        y = ops.squeeze(y, 0) if single else ops.swapaxes(y, 0, axis)
        if not need_weights:
            return y, None
        weights = ops.mean(weights, 1) if average_attn_weights else weights
        return y, (ops.squeeze(weights, 0) if single else weights)

    def _batches(self, query: Any, key: Any, value: Any, single: bool, axis: int) -> tuple[Any, Any, Any, bool]:
        """Queries, keys and values as (N, length, features), checked; and whether they are one and the same."""
        same = query is key and key is value
        ranks = {query.ndim, key.ndim, value.ndim}
        fits = ranks in ({2}, {3}) and key.shape[:-1] == value.shape[:-1]
        fits = fits and [x.shape[-1] for x in (query, key, value)] == [self.embed_dim, self.kdim, self.vdim]
        if not fits or (not single and query.shape[axis] != key.shape[axis]):
            shapes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
            raise ShapeError("forward", got=f"query, key and value {shapes}",
                             wanted=f"one rank, 2 or 3; one batch; {self.embed_dim}, {self.kdim}, {self.vdim} features")
        if same:
            query = ops.expand_dims(query, 0) if single else ops.swapaxes(query, 0, axis) if axis else query
            return query, query, query, True
        q, k, v = (ops.expand_dims(x, 0) if single else ops.swapaxes(x, 0, axis) if axis else x
                   for x in (query, key, value))
        return q, k, v, False

    def _projected(self, q: Any, k: Any, v: Any, same: bool) -> Any:
        if same and self.in_proj_weight is not None:  # one product instead of three
            return ops.split(F.linear(q, self.in_proj_weight, self.in_proj_bias), 3, -1)
        weights = ([self.q_proj_weight, self.k_proj_weight, self.v_proj_weight] if self.in_proj_weight is None else
                   ops.split(self.in_proj_weight, 3))
        biases = (None,) * 3 if self.in_proj_bias is None else ops.split(self.in_proj_bias, 3)
        return [F.linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases)]

    def _heads(self, x: Any) -> Any:
        """(N, length, features) as (N, heads, length, features of a head)."""
        return ops.permute_dims(ops.reshape(x, (*x.shape[:2], self.num_heads, self.head_dim)), (0, 2, 1, 3))

    def _mask(self, attn_mask: Any, key_padding_mask: Any, is_causal: bool, q: Any, k: Any, single: bool) -> Any:
        """One mask for all scores (N, heads, L, S): bools that say what is seen, or numbers to add; or None."""
        n, length, source = q.shape[0], q.shape[1], k.shape[1]
        masks = []
        if attn_mask is not None:
            fits = tuple(attn_mask.shape) in ((length, source), (n * self.num_heads, length, source))
            if not fits:
                raise ShapeError("forward", got=f"attn_mask {tuple(attn_mask.shape)}",
                                 wanted=f"({length}, {source}) or ({n * self.num_heads}, {length}, {source})")
            shape = (n, self.num_heads, length, source) if attn_mask.ndim == 3 else (1, 1, length, source)
            masks.append(ops.reshape(_seen(attn_mask), shape))
        elif is_causal:
            masks.append(causal_mask(length, source, q))
        if key_padding_mask is not None:
            if tuple(key_padding_mask.shape) != ((source,) if single else (n, source)):
                raise ShapeError("forward", got=f"key_padding_mask {tuple(key_padding_mask.shape)}",
                                 wanted=f"{(source,) if single else (n, source)}")
            masks.append(ops.reshape(_seen(key_padding_mask), (n, 1, 1, source)))
        if not masks:
            return None
        if any(value(m).dtype.kind == "f" for m in masks):
            masks = [m if value(m).dtype.kind == "f" else ops.where(m, 0.0, -float("inf")) for m in masks]
        mask = masks[0]
        for m in masks[1:]:
            mask = mask & m if value(m).dtype.kind == "b" else mask + m
        return self._widened(mask)

    def _widened(self, mask: Any) -> Any:
        """The mask with places for the keys that `add_bias_kv` and `add_zero_attn` add, which all are seen."""
        more = (self.bias_k is not None) + self.add_zero_attn
        if not more:
            return mask
        kept = value(mask).dtype.kind == "b"
        rim = namespace(value(mask)).full((*mask.shape[:-1], more), True if kept else 0.0, dtype=mask.dtype)
        return ops.concat([mask, rim], -1)

    def extra_repr(self) -> str:
        """Hyper-parameters."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"


def _seen(mask: Any) -> Any:
    """Bools that say what is hidden, turned around; numbers as they are."""
    kind = value(mask).dtype.kind
    if kind not in "bf":
        raise DtypeError("forward", got=f"a mask of dtype {mask.dtype}", wanted="bool or floating point")
    return ops.logical_not(mask) if kind == "b" else mask
