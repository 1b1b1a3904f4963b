"""Scaled dot-product attention, as one node."""

from __future__ import annotations

from typing import Any

from minigrad.backend import namespace
from minigrad.errors import ShapeError
from minigrad.op import Op, apply, beside, inputs, outputs, step
from minigrad.ops.elementwise import narrowed, stop_gradient, widened
from minigrad.ops.random import dropout
from minigrad.ops.reduction import finite

__all__ = ["attention"]


class Attention(Op):
    """y = D(P)·v,  P = softmax(s·q·kᵀ + mask);   gv = D(P)ᵀ·gy,  and with gP = D(gy·vᵀ) + the gradient of P itself,

    gS = P∘(gP − Σ gP∘P),  gq = s·gS·k,  gk = s·gSᵀ·q,  gmask = gS   (Vaswani et al., arXiv:1706.03762)

    D is dropout. Where a mask of bools is False, the score is −∞; a row of only −∞ has weights 0. P is an output: as a
    value of the graph it has a history, which makes derivatives of every order right.
    """

    __slots__ = ("scale", "p")
    n_out = 2
    broadcasts = True
    keeps = inputs(0, when=1) + inputs(1, when=0) + inputs(2, when=(0, 1, 3)) + inputs(4) + outputs(1)

    def __init__(self, scale, p):
        self.scale, self.p = scale, p

    def forward(self, q, k, v, mask, kept):
        weights = softmax(scores(q, k, mask, self.scale))
        y = weighted_sum(weights, v, kept, self.p)
        return narrowed(y, q.dtype), narrowed(weights, q.dtype)

    def backward(self, saved, needs, gy, gw):
        q, k, v, kept, weights = saved
        xp = namespace(weights)
        gv = gq = gk = gs = None
        p = widened(weights)
        if gy is not None and needs[2]:
            gv = narrowed(xp.matmul(xp.matrix_transpose(_dropped(p, kept, self.p)), widened(gy)), gy.dtype)
        if any(needs[i] for i in (0, 1, 3)):
            g = None if gw is None else widened(gw)
            if gy is not None:
                through = _dropped(xp.matmul(widened(gy), xp.matrix_transpose(widened(v))), kept, self.p)
                g = through if g is None else g + through
            gs = p * (g - xp.sum(g * p, axis=-1, keepdims=True))
            if needs[0]:
                gq = narrowed(xp.matmul(gs, widened(k)) * self.scale, k.dtype)
            if needs[1]:
                gk = narrowed(xp.matmul(xp.matrix_transpose(gs), widened(q)) * self.scale, q.dtype)
        return gq, gk, gv, (gs if needs[3] else None), None


@step
def scores(q, k, mask, scale):
    """s·q·kᵀ with the mask."""
    xp = namespace(q)
    found = xp.matmul(widened(q), xp.matrix_transpose(widened(k))) * scale
    if mask is None:
        return found
    masked = xp.where(mask, found, -float("inf")) if mask.dtype.kind == "b" else found + mask
    if masked.shape != found.shape:
        raise ShapeError("attention", got=f"mask {tuple(mask.shape)} for scores {tuple(found.shape)}",
                         wanted="a mask that broadcasts to the scores")
    return masked


@step
def softmax(x):
    """The softmax of each row; 0 for a row of only −∞."""
    xp = namespace(x)
    largest = xp.max if x.shape[-1] else xp.sum  # without any key there is no largest score
    e = xp.exp(x - finite(largest(stop_gradient(x), axis=-1, keepdims=True)))
    total = xp.sum(e, axis=-1, keepdims=True)
    return e / xp.where(total == 0, 1.0, total)


@step
def weighted_sum(weights, v, kept, p):
    """D(P)·v."""
    return namespace(weights).matmul(_dropped(weights, kept, p), widened(v))


def _dropped(x, kept, p):
    return x if kept is None else dropout(x, kept, p)


def attention(q: Any, k: Any, v: Any, mask: Any = None, kept: Any = None, scale: float | None = None,
              p: float = 0.0) -> tuple[Any, Any]:
    """Mean values v, weighted by how well their keys k fit a query q.

    Parameters
    ----------
    q : (…, L, E)
    k : (…, S, E)
    v : (…, S, Ev)
        Leading axes broadcast.
    mask : bool or floating point, broadcastable to (…, L, S), optional
        Where True, a query sees a key; numbers are added to the scores instead.
    kept : bool (…, L, S), optional
        Dropout of the weights: where True, one is kept and divided by 1 − `p`.
    scale : float, optional
        Of the scores; 1/√E unless given.

    Returns
    -------
    y : (…, L, Ev)
    weights : (…, L, S), before dropout; each row adds up to 1, or is 0 where nothing is seen

    Raises
    ------
    ShapeError
        Shapes do not fit.
    """
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError("attention", got=f"query {tuple(q.shape)}, key {tuple(k.shape)}, value {tuple(v.shape)}",
                         wanted="(…, L, E), (…, S, E) and (…, S, Ev)")
    scale = max(q.shape[-1], 1) ** -0.5 if scale is None else scale
    y, weights = apply(Attention(scale, p), q, k, v, beside(mask, q), beside(kept, q))
    return y, weights
