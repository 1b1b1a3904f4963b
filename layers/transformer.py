"""The encoder block of a transformer, and several of them in a row."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import functional as F
from minigrad.backend import Device
from minigrad.errors import ArgumentError
from minigrad.layers.attention import MultiheadAttention
from minigrad.layers.containers import ModuleList
from minigrad.layers.dropout import Dropout
from minigrad.layers.linear import Linear
from minigrad.layers.module import Module
from minigrad.layers.normalization import LayerNorm
from minigrad.ops.random import Generator

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention, then a small network at every place, each with a way around it and a normalization.

        after (post-norm):   x = norm1(x + attention(x)),        y = norm2(x + network(x))
        before (pre-norm):   x = x + attention(norm1(x)),        y = x + network(norm2(x))

    (Vaswani et al., arXiv:1706.03762; why *before* trains more easily: Xiong et al., arXiv:2002.04745.)

    Parameters
    ----------
    d_model, nhead, dim_feedforward : int
        Features, heads of the attention, hidden features of the network.
    dropout : float
        Of attention weights, of hidden features, and of both ways before they are added.
    activation : "relu", "gelu" or callable
    layer_norm_eps : float
    batch_first : bool
        Whether input and output are (N, L, features) instead of (L, N, features).
    norm_first : bool
        Whether to normalize before.
    bias : bool
        Whether linear maps and normalizations have biases.
    device, dtype
        Where, and of which type, the parameters are.
    norm : callable, optional
        Makes a normalization of `d_model` features: ``norm=layers.RMSNorm``, or ``layers.Identity`` for none.
        A `LayerNorm` with the options above unless given.
    generator : Generator, optional
        Where initial values and dropout's choices come from; the default generator unless given.

    Raises
    ------
    ArgumentError
        An unknown activation, or an option out of range.
    ShapeError
        When called: shapes do not fit.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad.layers import TransformerEncoderLayer
    >>> block = TransformerEncoderLayer(d_model=8, nhead=2, dim_feedforward=16, batch_first=True, norm_first=True)
    >>> block(minigrad.ones(5, 3, 8), is_causal=True).shape
    (5, 3, 8)
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 activation: str | Callable[[Any], Any] = "relu", layer_norm_eps: float = 1e-5,
                 batch_first: bool = False, norm_first: bool = False, bias: bool = True,
                 device: str | Device | None = None, dtype: Any = np.float32, *,
                 norm: Callable[[int], Module] | None = None, generator: Generator | None = None) -> None:
        super().__init__()
        if not callable(activation) and activation not in ACTIVATIONS:
            raise ArgumentError("TransformerEncoderLayer", got=f"activation={activation!r}",
                                wanted="'relu', 'gelu' or a function")

        def normalization() -> Module:
            return LayerNorm(d_model, layer_norm_eps, True, bias, device, dtype) if norm is None else norm(d_model)

        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, device=device,
                                            dtype=dtype, generator=generator)
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype, generator)
        self.dropout = Dropout(dropout, generator=generator)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype, generator)
        self.norm1, self.norm2 = normalization(), normalization()
        self.dropout1, self.dropout2 = (Dropout(dropout, generator=generator) for _ in range(2))
        self.norm_first = norm_first
        self.activation = activation if callable(activation) else ACTIVATIONS[activation]

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """Transform `src` (L, N, features), (N, L, features) with `batch_first`, or (L, features).

        Masks as `MultiheadAttention` takes them: True hides. `is_causal` alone makes place i see those up to i.
        """
        def attention(x: Any) -> Any:
            y, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(y)

        def network(x: Any) -> Any:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            x = src + attention(self.norm1(src))
            return x + network(self.norm2(x))
        x = self.norm1(src + attention(src))
        return self.norm2(x + network(x))


class TransformerEncoder(Module):
    """Copies of an encoder block in a row, and perhaps a normalization of what comes out.

    Parameters
    ----------
    encoder_layer : TransformerEncoderLayer
        Copied `num_layers` times, with its values.
    num_layers : int
    norm : Module, optional
    """

    def __init__(self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers = num_layers
        self.add_module("norm", norm)

    def forward(self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """Transform `src`; arguments as for the block."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)
